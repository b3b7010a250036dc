import Isolation
import Logging
import Replication

/// Carries out the source's side of one hand-off: performs the effects of `SourceHandoff` and feeds it what happened.
package struct SourceDriver: Sendable {
    /// What the driver works with.
    package struct Surroundings: Sendable {
        package var host: String
        package var sandboxes: any SandboxHosting
        package var store: any ClusterStore
        package var peers: any PeerCalls
        /// Ends the SMI's session connections, so that none of them is in the dump.
        package var closeSessions: @Sendable () async -> Void
        /// Called at once when the destination has said 'resumed': the route follows the SMI.
        package var routeTo: @Sendable (SandboxSpec, HostRecord) async -> Void
        /// Called where the destination gives the SMI back after it had said 'resumed'.
        package var takeBack: @Sendable () async -> Void
        /// Where memory travels in backing files; nil where CRIU's images hold all of it.
        package var memory: (any MemoryKeeping)?
        package var logger: Logger
        /// Longest wait for one answer of the destination.
        package var patience: Duration = .seconds(60)
        /// Pause between two attempts to read a store that does not answer.
        package var storePause: Duration = .milliseconds(200)
    }

    /// Where the hand-off is, for whoever watches it.
    package typealias Progress = @Sendable (HandoffProgress) async -> Void

    let surroundings: Surroundings
    let record: SMIRecord
    let revision: Int64
    let destination: HostRecord
    let progress: Progress

    /// A hand-off of the SMI of `record`, at `revision` of the store, to `destination`.
    package init(
        surroundings: Surroundings,
        record: SMIRecord,
        revision: Int64,
        destination: HostRecord,
        progress: @escaping Progress
    ) {
        self.surroundings = surroundings
        self.record = record
        self.revision = revision
        self.destination = destination
        self.progress = progress
    }

    /// Runs the hand-off until its outcome is certain.
    ///
    /// - Parameter onSuccess: Called once with the report as soon as the destination has said 'resumed', before the
    ///   source's copy is destroyed.
    /// - Returns: The report.
    /// - Throws: `OrchestratorError` where the SMI stays on this host.
    package func run(onSuccess: @Sendable (HandoffReport) async -> Void) async throws -> HandoffReport {
        var run = SourceRun(driver: self)
        return try await run.untilEnd(onSuccess: onSuccess)
    }
}

/// The state of one run of the driver.
private struct SourceRun {
    let driver: SourceDriver
    var machine = SourceHandoff()
    var link: (any HandoffLink)?
    var times: HandoffTimes
    var phasesThere: [String: Double] = [:]
    /// Bytes of each stream of the cut, told to the destination at its end.
    var completed: [CutStream: Int64] = [:]
    var memory: (any DepartingMemory)?
    var memoryEpoch: UInt64?
    /// Whether pages follow the cut.
    var leavesPages = false

    init(driver: SourceDriver) {
        self.driver = driver
        self.times = HandoffTimes(record: driver.record, from: driver.surroundings.host, to: driver.destination.name)
    }

    private var user: String { driver.record.user }
    private var around: SourceDriver.Surroundings { driver.surroundings }

    mutating func untilEnd(onSuccess: @Sendable (HandoffReport) async -> Void) async throws -> HandoffReport {
        var pending = machine.on(.start)
        var result: Result<HandoffReport, OrchestratorError>?
        while !pending.isEmpty {
            let effect = pending.removeFirst()
            switch effect {
            case .succeed:
                let report = times.report(phasesThere: phasesThere)
                await onSuccess(report)
                result = .success(report)
            case .fail(let error):
                // Also CRIU, which waits for a dump that does not come.
                try? await around.sandboxes.discardCut(user)
                await memory?.stays()
                try? await around.sandboxes.slow(user, to: nil)
                result = .failure(error)
            default:
                if let event = await perform(effect) {
                    around.logger.debug("hand-off step", metadata: ["user": "\(user)", "step": "\(effect)"])
                    pending += machine.on(event)
                }
            }
        }
        await link?.close(abandoning: nil)
        return try (result ?? .failure(Self.incomplete)).get()
    }

    private mutating func perform(_ effect: SourceHandoff.Effect) async -> SourceHandoff.Event? {
        switch effect {
        case .prepareDestination: return await prepare()
        case .checkpoint: return await checkpoint()
        case .sendCut: return await sendCut()
        case .completeCut: return await completeCut()
        case .abandonDestination:
            await link?.close(abandoning: Self.abandoned)
            link = nil
            return nil
        case .resumeLocal:
            await resumeLocal()
            return nil
        case .readStore: return await readStore()
        case .fence: return await fence()
        case .awaitResumed: return await awaitResumed()
        case .supply: return await supply()
        case .takeBack:
            await around.takeBack()
            return nil
        case .destroyLocal:
            await destroyLocal()
            return nil
        case .succeed, .fail:
            return nil
        }
    }

    private mutating func prepare() async -> SourceHandoff.Event {
        await driver.progress(HandoffProgress(phase: "prepare"))
        let preparation = HandoffPreparation(
            user: user,
            spec: driver.record.spec,
            generation: driver.record.generation,
            recordRevision: driver.revision,
            source: around.host
        )
        do {
            let link = try await around.peers.openHandoff(to: driver.destination)
            self.link = link
            let sandboxes = around.sandboxes
            let user = user
            // Both sides get ready at the same time.
            async let ready: Void = sandboxes.prepareCheckpoint(user)
            let early = try await within(around.patience, "the destination's preparation") {
                try await link.prepare(preparation)
            }
            try await ready
            times.mark("prepare")
            if case .refused(let error) = early { return .refused(error) }
            await warm()
            return .prepared
        } catch {
            return .contactLost(OrchestratorError(wrapping: error))
        }
    }

    /// Brings the destination's replica near, while the SMI runs; without one, CRIU's images carry the memory.
    private mutating func warm() async {
        guard let keeping = around.memory else { return }
        await driver.progress(HandoffProgress(phase: "warm"))
        var departing: (any DepartingMemory)?
        do {
            let begun = try await keeping.depart(driver.record, to: driver.destination)
            departing = begun
            let (sandboxes, user) = (around.sandboxes, user)
            times.warmed(
                try await begun.warm(
                    slow: { try await sandboxes.slow(user, to: $0) },
                    ready: { try await sandboxes.prepareCut(user, $0) }
                )
            )
            memory = begun
        } catch {
            await departing?.stays()
            around.logger.warning(
                "memory travels in the images",
                metadata: ["user": "\(user)", "error": "\(error)"]
            )
        }
        times.mark("warm")
    }

    private mutating func checkpoint() async -> SourceHandoff.Event {
        await driver.progress(HandoffProgress(phase: "freeze"))
        await around.closeSessions()
        times.mark("sessions")
        do {
            let report: CheckpointReport
            if let memory {
                let (sandboxes, user) = (around.sandboxes, user)
                report = try await memory.cutting { try await sandboxes.checkpoint(user, carrying: $0) }
            } else {
                report = try await around.sandboxes.checkpoint(user)
            }
            times.froze(report)
            return .checkpointed
        } catch {
            return .checkpointFailed(OrchestratorError(wrapping: error))
        }
    }

    private mutating func sendCut() async -> SourceHandoff.Event {
        guard let link else { return .contactLost(Self.incomplete) }
        var sent: [CutStream: Int64] = [:]
        do {
            for stream in CutStream.allCases {
                let source =
                    stream == .state
                    ? around.sandboxes.readCut(user) : around.sandboxes.readUpper(user)
                var total: Int64 = 0
                while let chunk = try await source.next() {
                    times.bytes += try await within(around.patience, "the link to \(driver.destination.name)") {
                        Int64(try await link.send(stream, chunk))
                    }
                    total += Int64(chunk.count)
                    await driver.progress(HandoffProgress(phase: "copy", bytes: times.bytes))
                }
                sent[stream] = total
            }
            if let memory {
                let cut = try await within(around.patience, "the link to \(driver.destination.name)") {
                    try await memory.sent()
                }
                times.bytes += cut.bytes
                memoryEpoch = cut.epoch
                leavesPages = !cut.latePages.isEmpty
            }
            times.mark("copy")
        } catch {
            return .contactLost(OrchestratorError(wrapping: error))
        }
        completed = sent
        return .copied
    }

    private mutating func completeCut() async -> SourceHandoff.Event {
        guard let link else { return .contactLost(Self.incomplete) }
        await driver.progress(HandoffProgress(phase: "restore"))
        do {
            let (bytes, epoch) = (completed, memoryEpoch)
            try await within(around.patience, "the link to \(driver.destination.name)") {
                try await link.complete(bytes: bytes, memoryEpoch: epoch)
            }
            let outcome = try await within(around.patience, "the destination's restore") { try await link.outcome() }
            switch outcome {
            case .resumed(let phases):
                times.resumed()
                phasesThere = phases
                return .resumed(lacksPages: leavesPages)
            case .refused(let error):
                return .refused(error)
            }
        } catch {
            return .contactLost(OrchestratorError(wrapping: error))
        }
    }

    private func resumeLocal() async {
        do {
            try await around.sandboxes.resume(user)
            try? await around.sandboxes.discardCut(user)
        } catch {
            around.logger.error(
                "sandbox did not resume after a failed hand-off",
                metadata: ["user": "\(user)", "error": "\(error)"]
            )
        }
    }

    private func readStore() async -> SourceHandoff.Event {
        do {
            let current = try await around.store.record(of: user)
            return .storeRead(ownedByUs: current?.record.host == around.host)
        } catch {
            try? await Task.sleep(for: around.storePause)
            return .storeUnavailable
        }
    }

    private func fence() async -> SourceHandoff.Event {
        do {
            return try await around.store.claim(user: user, host: around.host) ? .fenced : .fenceLost
        } catch {
            return .storeUnavailable
        }
    }

    /// The destination owns the SMI; it says when it runs, however long that takes: our copy is the only other one.
    private mutating func awaitResumed() async -> SourceHandoff.Event {
        while true {
            if let status = try? await around.peers.status(of: user, at: driver.destination), status.resumed {
                times.resumed()
                return .resumed(lacksPages: leavesPages)
            }
            if let found = try? await around.store.record(of: user), found.record.host == around.host {
                return .returned
            }
            try? await Task.sleep(for: around.storePause)
        }
    }

    /// The SMI's caller has its report; the frozen copy stays until all of it is at the destination.
    private func supply() async -> SourceHandoff.Event? {
        await around.routeTo(driver.record.spec, driver.destination)
        switch await memory?.supply() {
        case .returned: return .returned
        case .whole, .gone: return .supplied
        // Our copy is not known to be of no use: it stays, frozen, and the next daemon decides.
        case .abandoned, nil: return nil
        }
    }

    private func destroyLocal() async {
        await around.routeTo(driver.record.spec, driver.destination)
        do {
            try await around.sandboxes.destroy(user)
        } catch {
            around.logger.error(
                "leftovers of a moved sandbox",
                metadata: ["user": "\(user)", "error": "\(error)"]
            )
        }
    }

    private static let incomplete = OrchestratorError(
        .handoffFailed,
        cause: "the hand-off ended without an outcome",
        remedy: "look at the daemons' logs"
    )

    private static let abandoned = OrchestratorError(
        .handoffFailed,
        cause: "the source gave the hand-off up",
        remedy: "look at the source's log"
    )
}
