/// One operation at a time per user; those of different users go side by side.
package actor UserLocks {
    private var held: Set<String> = []
    private var waiting: [String: [CheckedContinuation<Void, Never>]] = [:]

    /// Locks without holder.
    package init() {}

    /// Waits for the user's turn; `release` ends it.
    package func acquire(_ user: String) async {
        if held.insert(user).inserted { return }
        await withCheckedContinuation { waiting[user, default: []].append($0) }
    }

    /// Lets the next one go on.
    package func release(_ user: String) {
        guard var queue = waiting[user], !queue.isEmpty else {
            held.remove(user)
            return
        }
        let next = queue.removeFirst()
        waiting[user] = queue.isEmpty ? nil : queue
        next.resume()
    }

    /// Runs work that blocks a thread of its own, alone for this user.
    package nonisolated func alone<Value: Sendable>(
        _ user: String,
        _ body: @escaping @Sendable () throws -> Value
    ) async throws -> Value {
        try await whileAlone(user) { try await offload(body) }
    }

    /// Runs work that waits without blocking, alone for this user, where the caller is isolated.
    package func whileAlone<Value: Sendable>(
        _ user: String,
        isolation: isolated (any Actor)? = #isolation,
        _ body: () async throws -> Value
    ) async throws -> Value {
        await acquire(user)
        do {
            let value = try await body()
            await release(user)
            return value
        } catch {
            await release(user)
            throw error
        }
    }
}
