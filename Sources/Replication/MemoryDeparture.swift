import BackingStore
import LinuxSystem
import Synchronization

/// How near a replica was brought before the freeze.
package struct Warmth: Sendable {
    /// Whether the replica held an epoch when the hand-off began.
    package let wasWarm: Bool
    /// Bytes sent while the SMI ran.
    package let bytes: Int64
    /// How the cut's memory travels.
    package let mode: CutMode
}

/// What the cut carried.
package struct MemoryCut: Sendable {
    package let epoch: UInt64
    package let bytes: Int64
    /// What it has left for afterwards.
    package var latePages: [Int32: [Range<UInt64>]] = [:]
    /// Pages that the processes will want first.
    package var hotPages: [Int32: [Range<UInt64>]] = [:]
}

extension MemoryOwner {
    /// Lets `body` freeze the SMI and call `CutMaker.cut` while no round runs; returns what it returns.
    ///
    /// The frames leave for `host` while `body` goes on. Where it fails, they are of no consequence: the replica then
    /// holds one more whole epoch. The stream is used for nothing else afterwards, but for the pages that a `late` cut
    /// leaves.
    package func cutting<Value: Sendable>(
        to host: String,
        late: Bool = false,
        _ body: @escaping @Sendable (CutMaker) async throws -> Value
    ) async throws -> (Value, CutSending) {
        try await turns.whileAlone(around.user) {
            // A background round may have come since the replica was warmed, and found it gone or behind.
            guard let subscriber = subscribers[host], subscriber.epoch == journal.epoch else {
                throw Self.notConnected(host)
            }
            isLeaving = true
            await around.priority.beginCut(to: host)
            let rate = await around.rates.rate(to: host)
            let maker = CutMaker(journal: journal, kind: late ? .lateCut : .cut, rate: rate)
            let sending = CutSending(maker, over: subscriber.link)
            let priority = around.priority
            Task {
                _ = await sending.finished()
                await priority.endCut(to: host)
            }
            do {
                let value = try await body(maker)
                maker.finish()
                return (value, sending)
            } catch {
                maker.finish()
                _ = await sending.finished()
                throw error
            }
        }
    }

    static func refused(_ host: String) -> ReplicaError {
        ReplicaError(
            cause: "host \(host) does not take the SMI's memory in",
            remedy: "look at its daemon's log; it may be out of disk space"
        )
    }

    static func notConnected(_ host: String) -> ReplicaError {
        ReplicaError(
            cause: "the stream of epochs to host \(host) is broken",
            remedy: "check the link between the hosts, then try again"
        )
    }
}

/// Makes the cut's rounds, on CRIU's thread, while the processes are stopped.
package final class CutMaker: Sendable {
    private let journal: MemoryJournal
    private let kind: MemoryFlush.Kind
    private let rate: Double
    private let out: AsyncStream<EpochRound>.Continuation
    fileprivate let rounds: AsyncStream<EpochRound>

    init(journal: MemoryJournal, kind: MemoryFlush.Kind, rate: Double) {
        self.journal = journal
        self.kind = kind
        self.rate = rate
        (rounds, out) = AsyncStream.makeStream()
    }

    /// Keeps what can be known before the freeze; copies of mappings that are in the directory already stay.
    ///
    /// Blocks.
    package func prepare(_ processes: [FlushedProcess], directory: String) {
        journal.prepareCut(processes, directory: directory)
    }

    /// Flushes what is left of stopped processes; what CRIU need not dump is noted in `directory`.
    ///
    /// Blocks. May be called again where a dump is tried again.
    package func cut(_ processes: [FlushedProcess], directory: String) throws {
        let round = try journal.round(kind, ProcessList(still: processes), limit: .none, link: rate, skips: directory)
        out.yield(round)
    }

    /// No more will come.
    func finish() {
        out.finish()
    }
}

/// The cut on its way to the destination.
package final class CutSending: Sendable {
    private let task: Task<MemoryCut, any Error>

    init(_ maker: CutMaker, over link: any EpochLink) {
        task = Task {
            var result = MemoryCut(epoch: 0, bytes: 0)
            for await round in maker.rounds {
                try await link.send(.begin(epoch: round.epoch, quick: true))
                var bytes: Int64 = 0
                for message in round.messages {
                    if case .frame(_, _, let frame) = message { bytes += Int64(frame.count) }
                    try await link.send(message)
                }
                try await link.send(.end(epoch: round.epoch, processes: round.processes))
                result = MemoryCut(
                    epoch: round.epoch,
                    bytes: result.bytes + bytes,
                    latePages: round.late,
                    hotPages: round.hot
                )
            }
            return result
        }
    }

    /// Waits until the whole cut has been handed to the transport.
    package func finished() async -> Result<MemoryCut, any Error> {
        await task.result
    }
}
