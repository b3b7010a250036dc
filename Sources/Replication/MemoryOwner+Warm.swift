import BackingStore
import LinuxSystem

/// Bringing a replica near before a freeze, and the choice of how the rest travels.
extension MemoryOwner {
    /// Most rounds that are made for a hand-off after the replica has caught up.
    private static let mostRounds = 8
    /// How often a program is slowed down for one hand-off.
    private static let mostSlowdowns = 4
    /// How often a replica may not take an epoch in, before it is given up.
    private static let mostRefusals = 3
    /// Memory's part of the freeze that rounds aim at, seconds.
    private static let goal = 0.002
    /// What a page takes in the freeze, to be read, compared and noted, beside its transfer, seconds (measured: 7 to 10 µs).
    private static let secondsPerPage = 8e-6

    /// Slows the SMI's processes to a share of their processor time; nil gives all of it back.
    package typealias Slowing = @Sendable (Double?) async throws -> Void

    /// What the rounds for one hand-off have come to.
    private struct Rounds {
        let host: String
        var bytes: Int64 = 0
        var refusals = 0
    }

    /// Brings a connected replica as near as it pays: until what is left fits, does not get less, or can follow the cut.
    ///
    /// `slow` is called where the program writes faster than the link carries it and there must always be a whole copy,
    /// `ready` before the last rounds: what takes long and has to be done before the freeze.
    package func warm(
        _ host: String,
        slow: @escaping Slowing = { _ in },
        ready: @escaping @Sendable () async throws -> Void = {}
    ) async throws -> Warmth {
        try await turns.whileAlone(around.user) {
            guard let subscriber = subscribers[host] else { throw Self.notConnected(host) }
            let wasWarm = subscriber.epoch > 0
            var rounds = Rounds(host: host)
            var round = try await made(.cold(isFirst: true), &rounds)
            while round.owedPages > 0 { round = try await made(.cold(isFirst: false), &rounds) }
            var mode = try await choose(&rounds)
            try await ready()
            if mode == .precopy {
                let left = try await converge(&rounds)
                mode = mode.reconsidered(left: left, needsWholeCopy: around.needsWholeCopy)
            }
            if case .throttle(let share) = mode {
                do {
                    try await slowDown(to: share, slow, &rounds)
                } catch {
                    try? await slow(nil)
                    throw error
                }
            }
            // Another round would find pages written that the cut then has to carry, and hold it up.
            isLeaving = isLeaving || destination == host
            return Warmth(wasWarm: wasWarm, bytes: rounds.bytes, mode: mode)
        }
    }

    /// What is left now, measured, against what the link carries.
    private func choose(_ rounds: inout Rounds) async throws -> CutMode {
        let sample = try await made(.sample, &rounds)
        let rate = await around.rates.rate(to: rounds.host)
        let mode = CutMode.choose(
            sample.residual,
            bandwidth: rate,
            budget: CutMode.budget,
            needsWholeCopy: around.needsWholeCopy
        )
        around.logger.info(
            "memory's way",
            metadata: [
                "user": "\(around.user)", "mode": "\(mode)", "pages": "\(sample.residual.pages)",
                "bytes-a-page": "\(Int(sample.residual.wireBytesPerPage))",
                "pages-a-second": "\(Int(sample.residual.pagesPerSecond))", "rate": "\(Int(rate))",
            ]
        )
        return mode
    }

    /// Slows the program, and further where it still writes more than fits: processor time tells little of what is written.
    private func slowDown(to share: Double, _ slow: Slowing, _ rounds: inout Rounds) async throws {
        var share = share
        for _ in 0..<Self.mostSlowdowns {
            try await slow(share)
            let left = try await converge(&rounds)
            around.logger.info(
                "slowed down",
                metadata: ["user": "\(around.user)", "share": "\(share)", "seconds-left": "\(left)"]
            )
            if left <= CutMode.budget { return }
            share = CutMode.furtherShare(left: left)
        }
    }

    /// Rounds until what is left fits, or does not get less any more; returns what is left, seconds.
    private func converge(_ rounds: inout Rounds) async throws -> Double {
        var last = Double.infinity
        var deferred = Int.max
        var count = 0
        while count < Self.mostRounds {
            let started = ContinuousClock.now
            let round = try await made(.last, &rounds)
            // Where there is more than a round takes, others follow as long as a good part of each is not new again: a
            // program that forks makes more than any round takes.
            if round.deferredPages > 0, round.deferredPages <= deferred - round.flushedPages / 4 {
                deferred = round.deferredPages
                continue
            }
            count += 1
            // What a program writes while a round is made and sent is the next round's work.
            let elapsed = seconds(ContinuousClock.now - started)
            let rate = await around.rates.rate(to: rounds.host)
            let perPage = round.residual.wireBytesPerPage / rate + Self.secondsPerPage
            let left = (round.residual.pagesPerSecond * elapsed + Double(round.deferredPages)) * perPage
            if left <= Self.goal || left > last * 0.7 { return left }
            last = left
        }
        return last
    }

    /// Makes a round and brings the replica to it; a replica that does not take it is asked for another a few times.
    private func made(_ kind: MemoryFlush.Kind, _ rounds: inout Rounds) async throws -> EpochRound {
        while true {
            try Task.checkCancellation()
            let round = try await flush(kind)
            await deliver(round, .handoff)
            await catchUp(rounds.host, .handoff)
            guard let reached = subscribers[rounds.host]?.epoch else { throw Self.notConnected(rounds.host) }
            rounds.bytes += Int64(round.wireBytes)
            if reached == round.epoch { return round }
            rounds.refusals += 1
            guard rounds.refusals < Self.mostRefusals else { throw Self.refused(rounds.host) }
        }
    }
}
