import Synchronization

/// The consumers of a store's changes.
///
/// The store calls `subscribe` and `publish` from the one place that orders its commits, so every consumer sees its
/// snapshot and then each later change exactly once, in order.
package final class StoreWatchers: Sendable {
    private struct Watcher {
        var prefix: StoreKey
        var continuation: AsyncThrowingStream<StoreEvent, any Error>.Continuation
    }

    private struct State {
        var next = 0
        var watchers: [Int: Watcher] = [:]
        var closed: StoreError?
    }

    private let state = Mutex(State())
    /// Events that may wait for one consumer before it is told that it fell behind.
    private let limit: Int

    /// No consumers yet.
    package init(limit: Int = 16384) {
        self.limit = limit
    }

    /// A stream and the end that the store feeds it through.
    package func makeStream() -> (
        AsyncThrowingStream<StoreEvent, any Error>, AsyncThrowingStream<StoreEvent, any Error>.Continuation
    ) {
        AsyncThrowingStream.makeStream(bufferingPolicy: .bufferingOldest(limit))
    }

    /// Adds a consumer, whose first event is the given snapshot.
    package func subscribe(
        _ prefix: StoreKey,
        _ continuation: AsyncThrowingStream<StoreEvent, any Error>.Continuation,
        snapshot: [StoreEntry],
        revision: Int64
    ) {
        let id = state.withLock { state in
            state.next += 1
            return state.next
        }
        // Set outside the lock, which it takes. A consumer that left before this point is found by the next publish.
        continuation.onTermination = { [weak self] _ in self?.remove(id) }
        let closed = state.withLock { state -> StoreError? in
            guard state.closed == nil else { return state.closed }
            continuation.yield(.snapshot(snapshot, revision: revision))
            state.watchers[id] = Watcher(prefix: prefix, continuation: continuation)
            return nil
        }
        if let closed { continuation.finish(throwing: closed) }
    }

    /// Hands a committed change to all consumers whose prefix covers its key.
    package func publish(_ key: StoreKey, _ event: StoreEvent) {
        let slow = state.withLock { state in
            var slow: [AsyncThrowingStream<StoreEvent, any Error>.Continuation] = []
            for (id, watcher) in state.watchers where key.begins(with: watcher.prefix) {
                guard case .enqueued = watcher.continuation.yield(event) else {
                    state.watchers[id] = nil
                    slow.append(watcher.continuation)
                    continue
                }
            }
            return slow
        }
        // Outside the lock: finishing runs onTermination, which takes it.
        for continuation in slow {
            continuation.finish(
                throwing: StoreError.unavailable(
                    cause: "a watch of the store fell \(limit) changes behind",
                    remedy: "watch again; the first event is a fresh snapshot"
                )
            )
        }
    }

    /// Ends all streams, now and in future, with an error.
    package func close(_ error: StoreError) {
        let watchers = state.withLock { state in
            defer { state.watchers = [:] }
            state.closed = error
            return state.watchers.values.map(\.continuation)
        }
        for continuation in watchers { continuation.finish(throwing: error) }
    }

    /// How many consumers there are.
    package var count: Int { state.withLock { $0.watchers.count } }

    private func remove(_ id: Int) {
        state.withLock { state in
            state.watchers[id] = nil
        }
    }
}
