import BackingStore
import LinuxSystem
import Replication

/// A replica on this host while its owner's stream, or a restore, uses it.
actor ReplicaSeat {
    private let replica: MemoryReplica
    private var isClaimed = false
    /// Who serves the replica's pages, while it lacks some.
    private var arrival: MemoryArrival?
    private var isFilled = false
    private var heirs: (any InheritingProcess)?
    private var waiting: [(epoch: UInt64, continuation: CheckedContinuation<Bool, Never>)] = []
    /// Says something to the owner.
    private var tell: @Sendable (EpochMessage) -> Void = { _ in }
    /// Counts streams: an old one does not speak for a new one.
    private var stream = 0

    init(_ replica: MemoryReplica) {
        self.replica = replica
    }

    /// A stream of the owner begins; the number goes with its messages.
    ///
    /// `tell` takes what is to be said to it.
    func begin(_ tell: @escaping @Sendable (EpochMessage) -> Void) -> Int {
        stream += 1
        self.tell = tell
        return stream
    }

    /// Takes in a message of a stream, and answers it.
    ///
    /// Blocks: for tasks that run on a thread of their own.
    func take(_ message: EpochMessage, of stream: Int) throws {
        guard stream == self.stream, !isClaimed || replica.isLacking else {
            throw EpochMessageError(description: "this stream has been replaced")
        }
        let isHello = if case .hello = message { true } else { false }
        if isHello {
            for (process, pages) in replica.lacking.sorted(by: { $0.key < $1.key }) where !pages.isEmpty {
                tell(.late(process: process, pages: pages))
            }
        }
        replica.keepFilled(isFilled, for: heirs)
        guard let reply = try replica.take(message) else { return }
        tell(reply)
        if isHello { arrival?.ask(tell) }
        if case .whole(let epoch) = reply {
            settle(epoch)
            arrival?.becameWhole()
        }
        if case .behind = reply { giveUp() }
    }

    /// Keeps memory ready for a restore from here on, or no more: private memory in the process that is to be inherited
    /// from.
    ///
    /// While a stream is at it, the replica's next epoch comes to it.
    func keepFilled(_ isKept: Bool, for heirs: (any InheritingProcess)? = nil) {
        (isFilled, self.heirs) = (isKept, heirs)
    }

    /// A stream has ended: whoever waits for its epoch waits in vain.
    func end(_ stream: Int) {
        guard stream == self.stream else { return }
        if !isClaimed { replica.drop() }
        giveUp()
    }

    private func settle(_ epoch: UInt64) {
        for waiter in waiting where waiter.epoch <= epoch { waiter.continuation.resume(returning: true) }
        waiting.removeAll { $0.epoch <= epoch }
    }

    private func giveUp() {
        for waiter in waiting { waiter.continuation.resume(returning: false) }
        waiting = []
    }

    /// Waits until an epoch is here whole, then takes the replica for good; nil where it does not come.
    func claim(epoch: UInt64, limit: Duration) async -> MemoryReplica? {
        if replica.epoch < epoch {
            let alarm = Task { [weak self] in
                try await Task.sleep(for: limit)
                await self?.giveUp()
            }
            let came = await withCheckedContinuation { waiting.append((epoch, $0)) }
            alarm.cancel()
            guard came else { return nil }
        }
        guard replica.epoch == epoch, replica.unusableEpoch != epoch, !isClaimed else { return nil }
        isClaimed = true
        return replica
    }

    // MARK: - Late pages

    /// Whether pages of the claimed epoch have yet to come.
    var isLacking: Bool { replica.isLacking }

    /// The pages that come from now on are served by an arrival.
    func served(by arrival: MemoryArrival) {
        isClaimed = true
        self.arrival = arrival
        arrival.ask(tell)
    }

    /// The SMI does not go on here: what its last epoch lacks will not come.
    func giveUpLate() async throws {
        let replica = replica
        try await offload { replica.giveUpLate() }
    }
}
