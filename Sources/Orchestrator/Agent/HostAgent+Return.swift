import Isolation

/// An SMI whose memory did not come here whole goes back to the host that has all of it, frozen.
extension HostAgent {
    static let processesGone = "its processes were gone before all of its memory had come"

    /// What is done about an SMI whose processes wait for memory that will not come.
    package func memoryLost(_ user: String, cause: String, isLacking: Bool) async {
        if isLacking, let record = try? await around.store.record(of: user)?.record, await canGiveBack(record) {
            _ = await giveBack(record, cause: cause)
        } else {
            await endLost(user, cause: cause)
        }
    }

    /// Whether another host holds a whole copy of an SMI that this host owns.
    func canGiveBack(_ record: SMIRecord) async -> Bool {
        guard record.host == host, record.state == .running, let last = record.lastHandoff else { return false }
        guard last.to == host, last.from != host, let memory = around.memory else { return false }
        return await memory.isLacking(record.user)
    }

    /// Ends the copy that is here, then makes the host owner again from which the SMI came.
    ///
    /// The store is asked until it is known what it says: with our copy gone nothing else can be right.
    func giveBack(_ record: SMIRecord, cause: String) async -> Bool {
        let user = record.user
        let isOurs = (try? begin(user, .stopping)) != nil
        defer { if isOurs { end(user) } }
        notRunning(user)
        while !Task.isCancelled {
            do {
                try await around.sandboxes.destroy(user)
                guard let source = try await returnOwnership(user) else { return true }
                await around.memory?.giveBack(user)
                around.events.note("returned", user: user, ["to": source, "from": host, "cause": cause])
                return true
            } catch {
                around.logger.warning("giving back waits", metadata: ["user": "\(user)", "error": "\(error)"])
            }
            try? await Task.sleep(for: .milliseconds(200))
        }
        return false
    }

    /// One compare-and-swap; nil where somebody else has changed the record.
    ///
    /// - Returns: the owner now.
    private func returnOwnership(_ user: String) async throws -> String? {
        guard let (current, revision) = try await around.store.record(of: user) else { return nil }
        // An answer that was lost: the swap had been made.
        if current.host != host { return current.lastHandoff?.from == host ? current.host : nil }
        guard let last = current.lastHandoff, last.to == host else { return nil }
        var next = current
        next.host = last.from
        next.generation += 1
        next.attempt = newAttemptName()
        next.lastHandoff = HandoffSummary(from: host, to: last.from, at: secondsSince1970())
        try await around.store.write(SMIRecord.key(user), next, expect: .revision(revision))
        return last.from
    }
}
