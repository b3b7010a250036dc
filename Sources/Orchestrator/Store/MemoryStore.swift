import Synchronization

/// A cluster store in memory: for simulation, where a million users share one process and nothing must survive it.
package final class MemoryStore: ClusterStore {
    private struct State {
        var revision: Int64 = 0
        /// In key order.
        var entries: [(key: StoreKey, entry: StoreEntry)] = []

        /// Where a key is, or where it belongs.
        func position(of key: StoreKey) -> Int {
            var low = 0
            var high = entries.count
            while low < high {
                let middle = (low + high) / 2
                if entries[middle].key < key { low = middle + 1 } else { high = middle }
            }
            return low
        }

        func entry(at position: Int, _ key: StoreKey) -> StoreEntry? {
            position < entries.count && entries[position].key == key ? entries[position].entry : nil
        }

        func below(_ prefix: StoreKey) -> [StoreEntry] {
            let start = position(of: prefix)
            let end = prefix.end.map { position(of: $0) } ?? entries.count
            return entries[start..<end].map(\.entry)
        }
    }

    private let state = Mutex(State())
    private let watchers = StoreWatchers()

    /// An empty store at revision 0.
    package init() {}

    package func get(_ key: String) async throws(StoreError) -> StoreEntry? {
        let key = try StoreKey(key)
        return state.withLock { $0.entry(at: $0.position(of: key), key) }
    }

    package func list(prefix: String) async throws(StoreError) -> [StoreEntry] {
        let prefix = try StoreKey(prefix: prefix)
        return state.withLock { $0.below(prefix) }
    }

    @discardableResult
    package func put(
        _ key: String,
        _ value: [UInt8],
        expect: StoreExpectation
    ) async throws(StoreError) -> Int64 {
        let text = key
        let key = try StoreKey(key)
        try StoreKey.check(value: value)
        return try change(key, expect) { state, position, current in
            let entry = StoreEntry(key: text, value: value, revision: state.revision + 1)
            if current == nil {
                state.entries.insert((key, entry), at: position)
            } else {
                state.entries[position].entry = entry
            }
            return .put(entry)
        }
    }

    @discardableResult
    package func delete(_ key: String, expect: StoreExpectation) async throws(StoreError) -> Int64 {
        let text = key
        let key = try StoreKey(key)
        return try change(key, expect) { state, position, current in
            guard current != nil else { return nil }
            state.entries.remove(at: position)
            return .deleted(key: text, revision: state.revision + 1)
        }
    }

    package func watch(prefix: String) -> AsyncThrowingStream<StoreEvent, any Error> {
        let (stream, continuation) = watchers.makeStream()
        do {
            let prefix = try StoreKey(prefix: prefix)
            state.withLock { state in
                watchers.subscribe(prefix, continuation, snapshot: state.below(prefix), revision: state.revision)
            }
        } catch {
            continuation.finish(throwing: error)
        }
        return stream
    }

    /// One commit: checks the expectation, applies the change and tells the watchers, all under the lock.
    private func change(
        _ key: StoreKey,
        _ expect: StoreExpectation,
        _ apply: (inout State, Int, StoreEntry?) -> StoreEvent?
    ) throws(StoreError) -> Int64 {
        let outcome = state.withLock { state -> Result<Int64, StoreError> in
            let position = state.position(of: key)
            let current = state.entry(at: position, key)
            guard expect.holds(of: current) else { return .failure(.conflict(current: current)) }
            guard let event = apply(&state, position, current) else { return .success(state.revision) }
            state.revision += 1
            watchers.publish(key, event)
            return .success(state.revision)
        }
        return try outcome.get()
    }
}
