import Isolation

extension HostAgent {
    /// Moves an SMI of this host to another one.
    ///
    /// - Returns: The report, as soon as the destination has said 'resumed'; the source's copy is destroyed afterwards.
    /// - Throws: `OrchestratorError`; the SMI then goes on here.
    package func handOff(
        _ request: HandoffRequest,
        progress: @escaping SourceDriver.Progress
    ) async throws -> HandoffReport {
        let user = request.user
        let destination = try await resolveDestination(request)
        // 'Resumed' is said a moment before an arrival has put everything away: going on waits for that.
        if activity(user) == .arriving { try await settled(user, until: .now + .seconds(10)) }
        guard let (record, revision) = try await around.store.record(of: user) else { throw Self.unknown(user) }
        guard record.host == host else { throw Self.elsewhere(record) }
        guard record.state == .running else { throw Self.stopped(user) }
        if destination.name == host {
            return .alreadyThere(user: user, host: host, generation: record.generation)
        }
        try begin(user, .leaving)
        do {
            try await reach(destination)
            if request.dryRun { return try await rehearse(record, to: destination) }
            return try await move(record, revision: revision, to: destination, progress: progress)
        } catch {
            end(user)
            throw error
        }
    }

    /// Has a host's daemon give a sign of life: one that is down is named in two seconds, before anything has begun.
    ///
    /// A connection that was made when the host was up says nothing for much longer.
    func reach(_ host: HostRecord) async throws {
        do {
            _ = try await around.peers.pid(of: host, timeout: .seconds(2))
        } catch let error as OrchestratorError where error.code != .version {
            throw OrchestratorError(
                .hostDown,
                cause: "host \(host.name) does not answer: \(error.cause)",
                remedy: "`smirun host ls` shows which hosts are up; look at that host's daemon and the link to it"
            )
        }
    }

    /// The host that a request names, directly or by an access point.
    func resolveDestination(_ request: HandoffRequest) async throws -> HostRecord {
        try await resolveHost(named: request.to, accessPoint: request.accessPoint)
    }

    /// Looks up a host by its name or by an access point that it serves; this host where neither is given.
    package func resolveHost(named name: String?, accessPoint: String?) async throws -> HostRecord {
        var name = name
        if let accessPoint {
            guard let entry = try await around.store.get(AccessPointRecord.key(accessPoint)) else {
                throw OrchestratorError(
                    .accessPointUnknown,
                    cause: "there is no access point \(accessPoint)",
                    remedy: "`smirun ap ls` shows those that are known; `smirun ap import` adds some"
                )
            }
            name = try decode(AccessPointRecord.self, entry.value).host
        }
        guard let name, name != host else { return around.host }
        guard let entry = try await around.store.get(HostRecord.key(name)) else {
            throw OrchestratorError(
                .hostUnknown,
                cause: "there is no host \(name) in this cluster",
                remedy: "`smirun host ls` shows those that are there"
            )
        }
        return try decode(HostRecord.self, entry.value)
    }

    private func rehearse(_ record: SMIRecord, to destination: HostRecord) async throws -> HandoffReport {
        defer { end(record.user) }
        let blockers = try await around.sandboxes.preflight(record.user)
        if let first = blockers.first {
            throw OrchestratorError(
                .init(rawValue: "not-dumpable"),
                cause: "process \(first.pid) (\(first.name)) cannot be moved: \(first.reason)",
                remedy: "end it, or let it give that up; `smirun doctor \(record.user)` shows all such processes"
            )
        }
        var report = HandoffReport.alreadyThere(user: record.user, host: host, generation: record.generation)
        report.to = destination.name
        report.frozenMs = nil
        report.blackoutMs = nil
        report.replica = "cold"
        report.note = "dry run: nothing was moved"
        return report
    }

    private func move(
        _ record: SMIRecord,
        revision: Int64,
        to destination: HostRecord,
        progress: @escaping SourceDriver.Progress
    ) async throws -> HandoffReport {
        let user = record.user
        // Pages of it may still be coming from where it was before.
        await around.memory?.settled(user)
        around.events.note("handoff-started", user: user, ["to": destination.name])
        let routes = around.routes
        let driver = SourceDriver(
            surroundings: SourceDriver.Surroundings(
                host: host,
                sandboxes: around.sandboxes,
                store: around.store,
                peers: around.peers,
                closeSessions: { [self] in await closeSessions(record) },
                routeTo: { await routes.route($0.address, via: $1) },
                takeBack: { [self] in await takeBack(user) },
                memory: around.memory,
                logger: around.logger
            ),
            record: record,
            revision: revision,
            destination: destination,
            progress: progress
        )
        // The report is wanted before the source's copy is gone, and the hand-off must end even where the caller left.
        let first = FirstResult<HandoffReport>()
        inBackground { [self] in
            do {
                _ = try await driver.run { report in
                    await self.departed(report)
                    first.resolve(.success(report))
                }
            } catch {
                let error = OrchestratorError(wrapping: error)
                self.around.events.note("handoff-failed", user: user, ["to": destination.name, "cause": error.cause])
                first.resolve(.failure(error))
            }
            await self.around.memory?.left(user)
            await self.end(user)
        }
        return try await first.value()
    }

    private func departed(_ report: HandoffReport) async {
        notRunning(report.user)
        await around.memory?.ended(report.user)
        around.events.note(
            "resumed",
            user: report.user,
            [
                "from": report.from,
                "to": report.to,
                "generation": "\(report.generation)",
                "frozen_ms": report.frozenMs.map { "\($0)" } ?? "",
            ]
        )
    }

    /// The destination has given an SMI back: it goes on from the copy that was frozen for the hand-off.
    private func takeBack(_ user: String) async {
        do {
            try await around.sandboxes.resume(user)
            try? await around.sandboxes.discardCut(user)
            await around.memory?.left(user)
            guard let record = try await around.store.record(of: user)?.record else { return }
            nowRunning(user, generation: record.generation)
            await around.memory?.began(record)
        } catch {
            around.logger.error("returned SMI did not resume", metadata: ["user": "\(user)", "error": "\(error)"])
            await recover(user)
        }
    }

    /// Takes in an SMI from another host; runs to its end whatever happens to the connection.
    package func arrive(_ preparation: HandoffPreparation, replies: any HandoffReplies) async {
        let user = preparation.user
        do {
            guard isValidUserName(user), preparation.spec.user == user else {
                throw OrchestratorError(.badArgument, cause: "not a user name", remedy: "update the source's smirun")
            }
            // The copy of an earlier stay may still be on its way out.
            try await beginWhenSettled(user, .arriving, limit: .seconds(10))
        } catch {
            await replies.sayRefused(OrchestratorError(wrapping: error))
            return
        }
        defer { end(user) }
        let driver = DestinationDriver(
            surroundings: DestinationDriver.Surroundings(
                host: host,
                sandboxes: around.sandboxes,
                store: around.store,
                ensureImage: { [around] digest in
                    try await Self.ensureImage(digest, from: preparation.source, around: around)
                },
                memory: around.memory,
                logger: around.logger
            ),
            preparation: preparation,
            replies: replies
        )
        switch await driver.run() {
        case .resumed(let record):
            try? await around.sandboxes.discardCut(user)
            nowRunning(user, generation: record.generation)
            await around.memory?.began(record)
        case .refused(let error):
            around.logger.warning("hand-off refused", metadata: ["user": "\(user)", "error": "\(error)"])
        case .needsRecovery(let error):
            around.logger.error("committed SMI did not resume", metadata: ["user": "\(user)", "error": "\(error)"])
            await recover(user)
        }
    }

    private static func ensureImage(_ digest: String, from source: String, around: Surroundings) async throws {
        if await around.images.has(digest) { return }
        guard let entry = try await around.store.get(HostRecord.key(source)) else { return }
        let host = try decode(HostRecord.self, entry.value)
        try await around.peers.fetchImage(digest, from: host)
    }
}
