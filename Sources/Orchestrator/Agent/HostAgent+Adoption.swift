import Isolation

extension HostAgent {
    /// Begins the agent's work: makes this host known in the cluster, and takes over what an earlier daemon left.
    ///
    /// Waits for the store: without it nothing can be decided.
    package func join() async throws {
        while true {
            do {
                try await around.store.write(HostRecord.key(host), around.host, expect: .any)
                return try await adoptAll()
            } catch {
                guard error is StoreError else { throw error }
                around.logger.warning("waiting for the store", metadata: ["error": "\(error)"])
            }
            try await Task.sleep(for: .milliseconds(200))
        }
    }

    /// Takes over, after a start of the daemon, whatever of SMIs is on this host.
    ///
    /// What the store must decide waits for the store: until it answers, frozen copies stay frozen.
    package func adoptAll() async throws {
        // Read before looking: what is committed to this host afterwards is not missing.
        let claimed = try await around.store.records(SMIRecord.self, prefix: SMIRecord.prefix)
        let found = try await around.sandboxes.survey()
        for presence in found where (try? begin(presence.user, .adopting)) != nil {
            inBackground { [self] in
                await self.adopt(presence)
                await self.end(presence.user)
            }
        }
        try await settleMissing(claimed, found: Set(found.map(\.user)))
        await around.memory?.sweep(running: Set(found.map(\.user)))
    }

    /// Runs the adoption of one SMI again, such as where a committed hand-off did not resume.
    func recover(_ user: String) async {
        do {
            let found = try await around.sandboxes.survey()
            if let presence = found.first(where: { $0.user == user }) { await adopt(presence) }
        } catch {
            around.logger.error("recovery failed", metadata: ["user": "\(user)", "error": "\(error)"])
        }
    }

    private func adopt(_ found: SandboxPresence) async {
        var presence = found
        let user = presence.user
        while !Task.isCancelled {
            do {
                if try await around.sandboxes.endUnfinishedRestore(user) {
                    presence.processes = 0
                    presence.frozen = false
                }
                let record = try await around.store.record(of: user)?.record
                let decision = decideAdoption(
                    record: record,
                    host: host,
                    processes: presence.processes,
                    hasCut: presence.hasCut
                )
                around.logger.info("adoption", metadata: ["user": "\(user)", "decision": "\(decision)"])
                if try await carryOut(decision, presence, record: record) { return }
            } catch {
                around.logger.warning("adoption waits", metadata: ["user": "\(user)", "error": "\(error)"])
            }
            try? await Task.sleep(for: .milliseconds(200))
        }
    }

    /// Returns true once nothing more is to be done.
    private func carryOut(
        _ decision: AdoptionDecision,
        _ presence: SandboxPresence,
        record: SMIRecord?
    ) async throws -> Bool {
        let user = presence.user
        switch decision {
        case .adopt:
            return try await takeOver(user, frozen: presence.frozen)
        case .restoreAgain:
            guard let record, try await around.store.claim(user: user, host: host) else { return false }
            try await around.sandboxes.stage(record.spec)
            do {
                try await serveMemory(ofCut: user)
                _ = try await around.sandboxes.restore(user)
            } catch {
                await around.memory?.discard(user)
                throw error
            }
            return try await takeOver(user, frozen: true)
        case .lost:
            if let record, await canGiveBack(record) { return await giveBack(record, cause: Self.processesGone) }
            try await around.sandboxes.stop(user)
            try await markStopped(user)
            around.events.note("lost", user: user)
            return true
        case .keepStopped:
            try await around.sandboxes.stop(user)
            return true
        case .destroy:
            try await around.sandboxes.destroy(user)
            if let record, record.host == host, record.state == .launching { await unreserve(record) }
            return true
        case .awaitResumed(let owner):
            return try await giveUp(presence, record: record, to: owner)
        }
    }

    /// A cut without its memory is restored from the backing files that belong to it.
    private func serveMemory(ofCut user: String) async throws {
        guard let epoch = await around.sandboxes.memoryEpoch(ofCut: user), let memory = around.memory else { return }
        await memory.stage(user)
        try await memory.arrive(user, epoch: epoch).listen()
    }

    /// A frozen copy is thawed only after our own compare-and-swap: a hand-off may still be about to commit elsewhere.
    private func takeOver(_ user: String, frozen: Bool) async throws -> Bool {
        if frozen {
            guard try await around.store.claim(user: user, host: host) else { return false }
        }
        _ = try await around.sandboxes.adopt(user)
        // A hand-off may have slowed it down.
        try? await around.sandboxes.slow(user, to: nil)
        try await around.sandboxes.resume(user)
        try await around.sandboxes.discardCut(user)
        guard let record = try await around.store.record(of: user)?.record else { return false }
        nowRunning(user, generation: record.generation)
        await around.memory?.began(record)
        around.events.note("adopted", user: user)
        return true
    }

    /// Another host owns the SMI: our copy goes once that host says that it runs there.
    private func giveUp(_ presence: SandboxPresence, record: SMIRecord?, to owner: String) async throws -> Bool {
        if !presence.frozen { try await around.sandboxes.freeze(presence.user) }
        guard let entry = try await around.store.get(HostRecord.key(owner)) else { return false }
        let peer = try decode(HostRecord.self, entry.value)
        let there = try await around.peers.status(of: presence.user, at: peer)
        if there.lacksPages, let record {
            if there.resumed, let spec = presence.spec { await around.routes.route(spec.address, via: peer) }
            guard let end = await around.memory?.supplyAgain(record, to: peer), end != .returned, end != .abandoned
            else { return false }
        } else if !there.resumed {
            return false
        }
        try await around.sandboxes.destroy(presence.user)
        if let spec = presence.spec { await around.routes.route(spec.address, via: peer) }
        return true
    }

    /// SMIs that the store gives to this host and of which nothing is here: launches that never ended, or lost files.
    ///
    /// The records were read before the host was surveyed, and are changed only where nobody else has meanwhile.
    private func settleMissing(_ claimed: [(SMIRecord, Int64)], found: Set<String>) async throws {
        for (record, revision) in claimed where record.host == host && !found.contains(record.user) {
            switch record.state {
            case .launching where activity(record.user) == nil: await unreserve(record)
            case .launching: break
            case .running where await canGiveBack(record):
                _ = await giveBack(record, cause: Self.processesGone)
            case .running:
                var stopped = record
                stopped.state = .stopped
                do {
                    try await around.store.write(SMIRecord.key(record.user), stopped, expect: .revision(revision))
                } catch {
                    guard isConflict(error) else { throw error }
                    continue
                }
                around.events.note("lost", user: record.user)
            case .stopped: break
            }
        }
    }
}
