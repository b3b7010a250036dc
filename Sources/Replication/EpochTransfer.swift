import BackingStore
import Synchronization

/// One epoch on its way to one replica, at the speed that its urgency allows; what the link carries is measured on the way.
final class EpochTransfer: Sendable {
    /// What waits for a transfer.
    enum Urgency {
        /// Leaves a part of the link free, and gives way to cuts.
        case background
        /// A hand-off waits for it.
        case handoff
    }

    /// The share of a link that background transfers take.
    static let backgroundShare = 0.8
    /// The part of a second for which a link is kept busy to measure it, and the bytes that takes at least.
    private static let probeSeconds = 0.08
    private static let leastProbe = 768 << 10

    private struct State {
        var meter = LinkMeter()
        var budget: BandwidthBudget
        /// Bytes that may leave without a pause, to measure the link.
        var probe = 0
    }

    private let host: String
    private let link: any EpochLink
    private let urgency: Urgency
    private let rates: LinkRates
    private let priority: LinkPriority
    private let state: Mutex<State>

    init(to host: String, over link: any EpochLink, _ urgency: Urgency, rates: LinkRates, priority: LinkPriority) async
    {
        self.host = host
        self.link = link
        self.urgency = urgency
        self.rates = rates
        self.priority = priority
        let rate = await rates.rate(to: host) * Self.backgroundShare
        state = Mutex(State(budget: BandwidthBudget(bytesPerSecond: rate)))
    }

    /// Lets `body` send the epoch's messages while answers are taken in; returns what the replica says to it, nil where its
    /// stream has ended.
    func run(_ body: (EpochTransfer) async throws -> Void) async throws -> EpochMessage? {
        let listening = Task { try await verdict() }
        return try await withTaskCancellationHandler {
            do {
                try await body(self)
            } catch {
                link.close()
                _ = await listening.result
                throw error
            }
            return try await listening.value
        } onCancel: {
            listening.cancel()
        }
    }

    private func verdict() async throws -> EpochMessage? {
        while let message = try await link.next() {
            guard case .took = message else { return message }
            let now = MemoryFlush.monotonicSeconds()
            guard let sample = state.withLock({ $0.meter.took(at: now) }) else { continue }
            await rates.observed(sample, to: host)
            let rate = await rates.rate(to: host) * Self.backgroundShare
            state.withLock { $0.budget.change(bytesPerSecond: rate) }
        }
        return nil
    }

    /// Sends a message; in the background, when its turn comes.
    func send(_ message: EpochMessage) async throws {
        guard case .frame(_, _, let bytes) = message else { return try await link.send(message) }
        if urgency == .background {
            await priority.giveWay(to: host)
            try await takeTurn(bytes.count)
        }
        state.withLock { $0.meter.sent(bytes.count) }
        try await link.send(message)
    }

    /// Waits until the budget has so many bytes left, or spends them in advance to measure the link.
    private func takeTurn(_ bytes: Int) async throws {
        let now = MemoryFlush.monotonicSeconds()
        let wait = state.withLock { $0.budget.spend(bytes, at: now) }
        guard wait > 0 else { return }
        if state.withLock({ $0.probe <= 0 }), await rates.takeProbe(of: host, at: now) {
            state.withLock { $0.probe = max(Self.leastProbe, Int($0.budget.bytesPerSecond * Self.probeSeconds)) }
        }
        let isProbe = state.withLock { state in
            guard state.probe > 0 else {
                state.meter.paused()
                return false
            }
            state.probe -= bytes
            return true
        }
        if !isProbe { try await Task.sleep(for: .seconds(wait)) }
    }
}
