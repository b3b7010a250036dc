import Isolation

extension HostAgent {
    /// Ends an SMI's processes; its files and its record stay.
    package func stop(_ user: String) async throws {
        let record = try await ownedRecord(user)
        if record.state == .stopped { return }
        try begin(user, .stopping)
        defer { end(user) }
        await closeSessions(record)
        notRunning(user)
        do {
            try await around.sandboxes.stop(user)
        } catch {
            nowRunning(user, generation: record.generation)
            throw error
        }
        try await markStopped(user)
        await around.memory?.forget(user)
        around.events.note("stopped", user: user)
    }

    /// Ends an SMI whose processes wait for memory that will not come.
    package func endLost(_ user: String, cause: String) async {
        guard (try? begin(user, .stopping)) != nil else { return }
        defer { end(user) }
        notRunning(user)
        do {
            try await around.sandboxes.stop(user)
            try await markStopped(user)
            await around.memory?.forget(user)
        } catch {
            around.logger.error("after the loss of memory", metadata: ["user": "\(user)", "error": "\(error)"])
        }
        around.events.note("lost", user: user, ["cause": cause])
    }

    /// Writes into the store that an SMI of this host does not run any more.
    func markStopped(_ user: String) async throws {
        guard let (current, revision) = try await around.store.record(of: user), current.host == host else { return }
        var stopped = current
        stopped.state = .stopped
        try await around.store.write(SMIRecord.key(user), stopped, expect: .revision(revision))
    }

    /// Removes an SMI: its files, its record and its address.
    package func remove(_ user: String, force: Bool) async throws {
        let record = try await ownedRecord(user)
        guard force || record.state == .stopped else {
            throw OrchestratorError(
                .running,
                cause: "\(user) is \(record.state.rawValue)",
                remedy: "stop it first with `smirun stop \(user)`, or use `smirun rm --force \(user)`"
            )
        }
        try begin(user, .removing)
        defer { end(user) }
        await closeSessions(record)
        notRunning(user)
        try await around.sandboxes.destroy(user)
        await around.memory?.forget(user)
        await unreserve(record)
        around.events.note("removed", user: user)
    }

    /// The record of an SMI that this host owns.
    ///
    /// - Throws: `userUnknown`, or `notRunning` with the owner's name where it is another host.
    func ownedRecord(_ user: String) async throws -> SMIRecord {
        guard let (record, _) = try await around.store.record(of: user) else { throw Self.unknown(user) }
        guard record.host == host else { throw Self.elsewhere(record) }
        return record
    }

    static func unknown(_ user: String) -> OrchestratorError {
        OrchestratorError(
            .userUnknown,
            cause: "there is no SMI of user \(user)",
            remedy: "launch one with `smirun launch \(user)`; `smirun ls` shows those that are there"
        )
    }

    static func elsewhere(_ record: SMIRecord) -> OrchestratorError {
        OrchestratorError(
            .notRunning,
            cause: "\(record.user) moved to \(record.host) in the meantime",
            remedy: "run the command again"
        )
    }

    static func stopped(_ user: String) -> OrchestratorError {
        OrchestratorError(
            .notRunning,
            cause: "\(user) is stopped",
            remedy: "remove it with `smirun rm \(user)` and launch it again"
        )
    }
}
