import LinuxSystem
import Replication

/// A replica on this host while its owner's stream, or a restore, uses it.
actor ReplicaSeat {
    private let replica: MemoryReplica
    private var isClaimed = false
    private var isFilled = false
    private var waiting: [(epoch: UInt64, continuation: CheckedContinuation<Bool, Never>)] = []
    /// Counts streams: an old one does not speak for a new one.
    private var stream = 0

    init(_ replica: MemoryReplica) {
        self.replica = replica
    }

    /// A stream of the owner begins; the number goes with its messages.
    func begin() -> Int {
        stream += 1
        return stream
    }

    /// Takes in a message of a stream; nil where nothing is to be answered.
    func take(_ message: EpochMessage, of stream: Int) async throws -> EpochMessage? {
        guard stream == self.stream, !isClaimed else {
            throw EpochMessageError(description: "this stream has been replaced")
        }
        let (replica, isFilled) = (replica, isFilled)
        let reply = try await offload {
            replica.keepFilled(isFilled)
            return try replica.take(message)
        }
        if case .whole(let epoch) = reply { settle(epoch) }
        if case .behind = reply { giveUp() }
        return reply
    }

    /// Keeps shared memory ready for a restore from here on, or no more.
    ///
    /// While a stream is at it, the replica's next epoch comes to it.
    func keepFilled(_ isKept: Bool) {
        isFilled = isKept
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
        guard replica.epoch == epoch, !isClaimed else { return nil }
        isClaimed = true
        return replica
    }
}
