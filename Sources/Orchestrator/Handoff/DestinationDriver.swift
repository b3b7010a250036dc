import Isolation
import Logging

/// What arrives from the source during a hand-off.
package enum HandoffArrival: Sendable {
    case chunk(CutStream, [UInt8])
    /// The cut is whole; how many bytes each stream had, and the epoch of the backing files that belong to it.
    case complete([CutStream: Int64], memoryEpoch: UInt64?)
    case abandoned(OrchestratorError)
}

/// The destination's connection to the source of one hand-off.
package protocol HandoffReplies: Sendable {
    /// The next message; nil when contact is lost.
    func next() async -> HandoffArrival?
    /// Everything that can exist before the cut exists.
    func sayPrepared() async
    /// The SMI runs here.
    func sayResumed(generation: Int, phases: [String: Double]) async
    /// This attempt was given up for good.
    func sayRefused(_ error: OrchestratorError) async
}

/// Carries out the destination's side of one hand-off.
package struct DestinationDriver: Sendable {
    /// What the driver works with.
    package struct Surroundings: Sendable {
        package var host: String
        package var sandboxes: any SandboxHosting
        package var store: any ClusterStore
        /// Brings the base image here where it is missing.
        package var ensureImage: @Sendable (String) async throws -> Void
        /// Where memory travels in backing files; nil where CRIU's images hold all of it.
        package var memory: (any MemoryKeeping)?
        package var logger: Logger
        /// Pause before an unanswered compare-and-swap is asked again.
        package var storePause: Duration = .milliseconds(100)
    }

    let surroundings: Surroundings
    let preparation: HandoffPreparation
    let replies: any HandoffReplies

    /// A hand-off that a source has announced.
    package init(surroundings: Surroundings, preparation: HandoffPreparation, replies: any HandoffReplies) {
        self.surroundings = surroundings
        self.preparation = preparation
        self.replies = replies
    }

    /// How it ended, for the agent.
    package enum Ending: Sendable {
        case resumed(SMIRecord)
        case refused(OrchestratorError)
        /// We own it but it does not run: adoption has to try again.
        case needsRecovery(OrchestratorError)
    }

    /// Runs the hand-off until its outcome is certain; never throws, never leaves half a sandbox.
    package func run() async -> Ending {
        var run = DestinationRun(driver: self)
        return await run.untilEnd()
    }
}

private struct DestinationRun {
    let driver: DestinationDriver
    var machine = DestinationHandoff()
    /// The record as it was when the hand-off was announced: the compare-and-swap needs no read in the freeze.
    var base: SMIRecord?
    /// Set where an earlier compare-and-swap had no answer: the store is read before the next.
    var unanswered = false
    var committed: SMIRecord?
    var phases: [String: Double] = [:]
    var arriving: (any ArrivingMemory)?
    /// The restore, which commit and resume follow.
    var restoring: Task<SandboxProcess, any Error>?
    let attempt = newAttemptName()
    private let clock = ContinuousClock()

    init(driver: DestinationDriver) {
        self.driver = driver
    }

    private var user: String { driver.preparation.user }
    private var around: DestinationDriver.Surroundings { driver.surroundings }

    mutating func untilEnd() async -> DestinationDriver.Ending {
        var pending = machine.on(.prepare)
        var ending = DestinationDriver.Ending.refused(Self.contactLost)
        while !pending.isEmpty {
            let effect = pending.removeFirst()
            switch effect {
            case .sayRefused(let error):
                await driver.replies.sayRefused(error)
                ending = .refused(error)
            case .sayResumed:
                await driver.replies.sayResumed(generation: driver.preparation.generation + 1, phases: phases)
                if let committed { ending = .resumed(committed) }
            case .recover(let error):
                ending = .needsRecovery(error)
            default:
                if let event = await perform(effect) { pending += machine.on(event) }
            }
        }
        return ending
    }

    private mutating func perform(_ effect: DestinationHandoff.Effect) async -> DestinationHandoff.Event? {
        switch effect {
        case .stage: return await stage()
        case .sayPrepared:
            await driver.replies.sayPrepared()
            return await receive()
        case .restore: return await restore()
        case .commit: return await commit()
        case .resume: return await resume()
        case .discard:
            do {
                try await around.sandboxes.destroy(user)
            } catch {
                around.logger.error(
                    "leftovers of a refused hand-off",
                    metadata: ["user": "\(user)", "error": "\(error)"]
                )
            }
            await around.memory?.discard(user)
            return nil
        case .sayRefused, .sayResumed, .recover:
            return nil
        }
    }

    private mutating func stage() async -> DestinationHandoff.Event {
        let start = clock.now
        do {
            guard let (current, revision) = try await around.store.record(of: user),
                revision == driver.preparation.recordRevision
            else { return .stageFailed(Self.recordChanged) }
            base = current
            try await around.ensureImage(driver.preparation.spec.image)
            try await around.sandboxes.stage(driver.preparation.spec)
            await around.memory?.stage(user)
            phases["stage"] = milliseconds(clock.now - start)
            return .staged
        } catch {
            return .stageFailed(OrchestratorError(wrapping: error))
        }
    }

    private mutating func receive() async -> DestinationHandoff.Event {
        var sinks: [CutStream: any ChunkSink] = [:]
        do {
            sinks[.state] = try await around.sandboxes.cutSink(user)
            sinks[.files] = try await around.sandboxes.upperSink(user)
            var received: [CutStream: Int64] = [:]
            while let arrival = await driver.replies.next() {
                switch arrival {
                case .chunk(let stream, let bytes):
                    try await sinks[stream]?.write(bytes)
                    received[stream, default: 0] += Int64(bytes.count)
                case .complete(let sent, let memoryEpoch):
                    guard CutStream.allCases.allSatisfy({ sent[$0, default: 0] == received[$0, default: 0] }) else {
                        throw Self.incomplete
                    }
                    for stream in CutStream.allCases { try await sinks[stream]?.finish() }
                    try await takeMemory(memoryEpoch)
                    try await around.sandboxes.sealCut(user, memoryEpoch: memoryEpoch)
                    return .cutComplete
                case .abandoned(let reason):
                    for sink in sinks.values { await sink.abandon() }
                    return .contactLost(reason)
                }
            }
            for sink in sinks.values { await sink.abandon() }
            return .contactLost(Self.contactLost)
        } catch {
            for sink in sinks.values { await sink.abandon() }
            return .receiveFailed(OrchestratorError(wrapping: error))
        }
    }

    /// Waits for memory's part of the cut, which comes on the stream of epochs.
    private mutating func takeMemory(_ epoch: UInt64?) async throws {
        guard let epoch else { return }
        guard let memory = around.memory else { throw Self.noMemory }
        let start = clock.now
        arriving = try await memory.arrive(user, epoch: epoch)
        phases["memory"] = milliseconds(clock.now - start)
    }

    private mutating func restore() async -> DestinationHandoff.Event {
        let start = clock.now
        do {
            try await arriving?.listen()
            let (frozen, onFrozen) = AsyncStream<Void>.makeStream()
            let (sandboxes, user, arriving) = (around.sandboxes, user, arriving)
            let restoring = Task {
                defer { onFrozen.finish() }
                return try await sandboxes.restore(user) { processes in
                    onFrozen.yield()
                    arriving?.frozen(processes)
                }
            }
            self.restoring = restoring
            // CRIU lets go of the processes while the compare-and-swap is under way: they are all there, and frozen.
            for await _ in frozen {
                phases["restore.criu"] = milliseconds(clock.now - start)
                return .restored
            }
            _ = try await restoring.value
            return .restored
        } catch {
            return .restoreFailed(OrchestratorError(wrapping: error))
        }
    }

    /// The commit point: from its success on the SMI is ours, whatever happens.
    private mutating func commit() async -> DestinationHandoff.Event {
        let start = clock.now
        do {
            if unanswered, try await around.store.record(of: user)?.record.attempt == attempt {
                return .committed
            }
            guard var next = committed ?? base else { return .commitRefused(Self.recordChanged) }
            next.host = around.host
            next.generation = driver.preparation.generation + 1
            next.attempt = attempt
            next.lastHandoff = HandoffSummary(
                from: driver.preparation.source,
                to: around.host,
                at: secondsSince1970()
            )
            committed = next
            let expected = StoreExpectation.revision(driver.preparation.recordRevision)
            try await around.store.write(SMIRecord.key(user), next, expect: expected)
            phases["commit"] = milliseconds(clock.now - start)
            return .committed
        } catch {
            if let error = error as? StoreError, case .conflict(let current) = error {
                return isOurs(current) ? .committed : .commitRefused(Self.recordChanged)
            }
            around.logger.warning("the store does not answer", metadata: ["user": "\(user)", "error": "\(error)"])
            unanswered = true
            try? await Task.sleep(for: around.storePause)
            return .commitUnanswered
        }
    }

    /// Whether an entry was written by this attempt: the answer to its compare-and-swap was lost.
    private func isOurs(_ entry: StoreEntry?) -> Bool {
        guard let entry, let record = try? decode(SMIRecord.self, entry.value) else { return false }
        return record.attempt == attempt
    }

    private mutating func resume() async -> DestinationHandoff.Event {
        let start = clock.now
        do {
            if let process = try await restoring?.value {
                for (phase, length) in process.phases { phases["restore." + phase] = length }
            }
            await arriving?.resuming()
            try await around.sandboxes.resume(user)
            phases["resume"] = milliseconds(clock.now - start)
            return .resumed
        } catch {
            return .resumeFailed(OrchestratorError(wrapping: error))
        }
    }

    private static let contactLost = OrchestratorError(
        .handoffFailed,
        cause: "the source's connection ended before the cut was whole",
        remedy: "check the link between the hosts and try again"
    )

    private static let incomplete = OrchestratorError(
        .handoffFailed,
        cause: "the cut arrived with another length than was sent",
        remedy: "try again; if it happens again look at both daemons' logs"
    )

    private static let noMemory = OrchestratorError(
        .version,
        cause: "this host cannot take memory in epochs",
        remedy: "run the same version of smirun everywhere"
    )

    private static let recordChanged = OrchestratorError(
        .handoffFailed,
        cause: "the SMI's ownership changed during its hand-off",
        remedy: "run `smirun inspect USER` and try again"
    )
}
