import LinuxSystem

/// One operation at a time per user; those of different users go side by side.
actor UserLocks {
    private var held: Set<String> = []
    private var waiting: [String: [CheckedContinuation<Void, Never>]] = [:]

    func acquire(_ user: String) async {
        if held.insert(user).inserted { return }
        await withCheckedContinuation { waiting[user, default: []].append($0) }
    }

    func release(_ user: String) {
        guard var queue = waiting[user], !queue.isEmpty else {
            held.remove(user)
            return
        }
        let next = queue.removeFirst()
        waiting[user] = queue.isEmpty ? nil : queue
        next.resume()
    }

    /// Runs work that blocks a thread of its own, alone for this user.
    nonisolated func alone<Value: Sendable>(
        _ user: String,
        _ body: @escaping @Sendable () throws -> Value
    ) async throws -> Value {
        await acquire(user)
        do {
            let value = try await offload(body)
            await release(user)
            return value
        } catch {
            await release(user)
            throw error
        }
    }
}
