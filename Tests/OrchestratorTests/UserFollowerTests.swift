import Foundation
import Isolation
import Logging
import Mobility
import Synchronization
import Testing

@testable import Orchestrator

@Suite("Following users from records to plans and hand-offs")
struct UserFollowerTests {
    @Test("moves the SMI to the host of each access point and plans replicas from there")
    func follows() async throws {
        let world = try await FollowedWorld()
        try await world.launch("alice", on: "h1")
        for (step, ap) in ["a1", "a2", "a3"].enumerated() {
            await world.follower.on(world.record("alice", ap, Double(step) * 20))
            try await world.settle { $0.owner("alice") == "h\(step + 1)" && $0.plan("alice")?.ap == ap }
        }
        #expect(world.actions.moves == ["alice h1>h2", "alice h2>h3"])
        let plan = try #require(world.actions.plan("alice"))
        let previous = try #require(plan.entries.first { $0.host == "h2" })
        #expect(previous.reasons.contains(.previousHost))
        #expect(!plan.entries.contains { $0.host == "h3" }, "no replica beside the SMI itself")
    }

    @Test("does not move the SMI over a flap, and moves it once the user has stayed")
    func flap() async throws {
        let world = try await FollowedWorld(confirmAfter: 0.3)
        try await world.launch("alice", on: "h1")
        await world.follower.on(world.record("alice", "a1", 0))
        await world.follower.on(world.record("alice", "a2", 20))
        try await world.settle { $0.owner("alice") == "h2" }
        await world.follower.on(world.record("alice", "a1", 23))
        await world.follower.on(world.record("alice", "a2", 25))
        try await world.settle { $0.plan("alice")?.holdHandoff == true && $0.plan("alice")?.ap == "a2" }
        try await Task.sleep(for: .milliseconds(500))
        #expect(world.actions.moves == ["alice h1>h2"])
        await world.follower.on(world.record("alice", "a1", 28))
        try await world.settle { $0.owner("alice") == "h1" }
        #expect(world.actions.moves == ["alice h1>h2", "alice h2>h1"])
    }

    @Test("plans replicas with reasons and deadlines where it has learned the way")
    func learned() async throws {
        let world = try await FollowedWorld()
        for lap in 0..<40 {
            for (step, ap) in ["a1", "a2", "a3"].enumerated() {
                await world.follower.on(world.record("bob", ap, Double(lap * 60 + step * 20)))
            }
        }
        try await world.launch("bob", on: "h1")
        await world.follower.on(world.record("bob", "a1", 2400))
        await world.follower.on(world.record("bob", "a2", 2420))
        try await world.settle { $0.owner("bob") == "h2" && $0.plan("bob")?.ap == "a2" }
        let plan = try #require(world.actions.plan("bob"))
        let next = try #require(plan.entries.first)
        #expect(next.host == "h3")
        #expect(next.freshness == .live)
        // 12,500,000 bytes at the 50 Mbit/s that are taken for a link that nothing was measured on.
        #expect(next.replicationSeconds == 2)
        let needed = try #require(next.neededIn)
        let start = try #require(next.startLiveIn)
        #expect(needed > 2 && needed < 25)
        #expect(abs(start - max(needed - 3, 0)) < 0.01)
        let view = ReplicaPlanView(plan)
        #expect(view.replicas[0].why[0].contains("of hand-offs expected there"))
        #expect(view.replicas[0].neededAt == plan.time + needed)
    }

    @Test("uses the measured rate of the last hand-off for the next plan")
    func measured() async throws {
        let world = try await FollowedWorld()
        for lap in 0..<40 {
            for (step, ap) in ["a1", "a2", "a3"].enumerated() {
                await world.follower.on(world.record("bob", ap, Double(lap * 60 + step * 20)))
            }
        }
        try await world.launch("bob", on: "h3")
        // 10 MB in two seconds from h1; then a hand-off back to it, so that the next plan is for its link.
        world.actions.answer(bytes: 10_000_000, ms: 2000)
        await world.follower.on(world.record("bob", "a1", 2400))
        try await world.settle { $0.owner("bob") == "h1" }
        await world.follower.on(world.record("bob", "a2", 2420))
        try await world.settle { $0.owner("bob") == "h2" }
        await world.follower.on(world.record("bob", "a3", 2440))
        await world.follower.on(world.record("bob", "a1", 2460))
        try await world.settle { $0.owner("bob") == "h1" && $0.plan("bob")?.ap == "a1" }
        let seconds = try #require(world.actions.plan("bob")?.entries.compactMap(\.replicationSeconds).first)
        #expect(seconds == 2.5)
    }

    @Test("tells why a user was not followed and tries again")
    func failure() async throws {
        let world = try await FollowedWorld()
        try await world.launch("alice", on: "h1")
        world.actions.refuse(1)
        await world.follower.on(world.record("alice", "a2", 0))
        try await world.settle { $0.owner("alice") == "h2" }
        await world.events.close()
        let kinds = try await world.store.records(EventRecord.self, prefix: EventRecord.prefix).map(\.record)
        let told = try #require(kinds.first { $0.kind == "not-followed" })
        #expect(told.detail["cause"] == "h2 is down")
        #expect(told.detail["remedy"] == "start it")
    }

    @Test("leaves alone who has no SMI, whose SMI is stopped, and forgets who is gone")
    func others() async throws {
        let world = try await FollowedWorld()
        await world.follower.on(world.record("nobody", "a2", 0))
        try await world.launch("carol", on: "h1", state: .stopped)
        await world.follower.on(world.record("carol", "a2", 0))
        try await world.launch("alice", on: "h1")
        await world.follower.on(world.record("alice", "a2", 20))
        try await world.settle { $0.owner("alice") == "h2" }
        #expect(world.actions.moves == ["alice h1>h2"])
        try await world.store.put(ReplicaPlan.key("alice"), [0x7b, 0x7d], expect: .any)
        try await world.store.delete(SMIRecord.key("alice"), expect: .any)
        let deadline = ContinuousClock.now + .seconds(10)
        while try await world.store.get(ReplicaPlan.key("alice")) != nil {
            try #require(ContinuousClock.now < deadline)
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    @Test("knows who has an SMI from its beginning, before the store tells of changes")
    func knowsFromTheBeginning() async throws {
        let world = try await FollowedWorld()
        try await world.launch("alice", on: "h1")
        let later = UserFollower(
            UserFollower.Surroundings(
                store: world.store,
                actions: world.actions,
                events: world.events,
                memory: nil,
                logger: Logger(label: "test")
            )
        )
        try await later.begin()
        await later.on(world.record("alice", "a2", 0))
        try await world.settle { $0.owner("alice") == "h2" }
    }

    @Test("goes on with what an earlier daemon learned, and puts a damaged file aside")
    func memory() async throws {
        let directory = NSTemporaryDirectory() + "smirun-follower-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let first = try await FollowedWorld(state: directory)
        for lap in 0..<40 {
            for (step, ap) in ["a1", "a2", "a3"].enumerated() {
                await first.follower.on(first.record("bob", ap, Double(lap * 60 + step * 20)))
            }
        }
        await first.follower.keep()
        let second = try await FollowedWorld(state: directory)
        try await second.launch("bob", on: "h1")
        await second.follower.on(second.record("bob", "a1", 2400))
        try await second.settle { $0.plan("bob") != nil }
        #expect(second.actions.plan("bob")?.entries.first?.host == "h2")
        let file = directory + "/mobility/predictor"
        try Data("nonsense".utf8).write(to: URL(fileURLWithPath: file))
        _ = try await FollowedWorld(state: directory)
        #expect(FileManager.default.fileExists(atPath: file + ".damaged"))
        #expect(!FileManager.default.fileExists(atPath: file))
    }
}

/// A follower with three hosts and three access points in a row, 20 s apart.
private final class FollowedWorld: Sendable {
    let store = MemoryStore()
    let actions: FakeFollowActions
    let events: EventLog
    let follower: UserFollower
    private let running: Task<Void, Never>

    init(confirmAfter: Double = 3, state: String? = nil) async throws {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        for step in 1...3 {
            let name = "a\(step)"
            let point = AccessPointRecord(name: name, host: "h\(step)", x: Double(step) * 60, y: 0)
            try await store.write(AccessPointRecord.key(name), point, expect: .any)
        }
        events = EventLog(host: "h1", store: store, logger: logger)
        actions = FakeFollowActions(store: store)
        var bounds = ReplicaPlanner.Configuration()
        bounds.confirmAfter = confirmAfter
        let follower = UserFollower(
            UserFollower.Surroundings(
                store: store,
                actions: actions,
                events: events,
                memory: state.map { PredictorFile(state: $0, logger: logger) },
                logger: logger
            ),
            planner: ReplicaPlanner(configuration: bounds)
        )
        self.follower = follower
        try await follower.begin()
        running = Task { await follower.run() }
    }

    deinit { running.cancel() }

    func launch(_ user: String, on host: String, state: SMIRecord.State = .running) async throws {
        let record = SMIRecord(
            user: user,
            host: host,
            generation: 1,
            state: state,
            spec: SandboxSpec(
                user: user,
                image: "sha256:0",
                program: ["/bin/true"],
                environment: [],
                limits: ResourceLimits(memory: 1 << 20, cpus: 1, pids: 4),
                address: SandboxAddress(index: 1),
                secret: []
            ),
            imageName: "busybox",
            createdAt: 0,
            attempt: "1",
            lastHandoff: nil
        )
        try await store.write(SMIRecord.key(user), record, expect: .any)
        await follower.note(record)
    }

    func record(_ user: String, _ ap: String, _ time: Double) -> RoamingRecord {
        RoamingRecord(time: time, user: user, ap: ap, kind: time == 0 ? .start : .roam)
    }

    /// Waits until the fake cluster is in a state; bounded, not timed.
    func settle(
        at location: SourceLocation = #_sourceLocation,
        _ condition: (FakeFollowActions) -> Bool
    ) async throws {
        let deadline = ContinuousClock.now + .seconds(10)
        while !condition(actions) {
            try #require(ContinuousClock.now < deadline, "the state was not reached", sourceLocation: location)
            try await Task.sleep(for: .milliseconds(2))
        }
    }
}

/// Hand-offs that take no time, and plans that are only looked at.
private final class FakeFollowActions: FollowActions {
    private struct State {
        var owners: [String: String] = [:]
        var moves: [String] = []
        var plans: [String: ReplicaPlan] = [:]
        var refusals = 0
        var bytes: Int64 = 0
        var ms = 0.0
    }

    private let state = Mutex(State())
    private let store: MemoryStore

    init(store: MemoryStore) { self.store = store }

    var moves: [String] { state.withLock(\.moves) }
    func owner(_ user: String) -> String? { state.withLock { $0.owners[user] ?? "h1" } }
    func plan(_ user: String) -> ReplicaPlan? { state.withLock { $0.plans[user] } }
    func refuse(_ times: Int) { state.withLock { $0.refusals = times } }
    func answer(bytes: Int64, ms: Double) { state.withLock { ($0.bytes, $0.ms) = (bytes, ms) } }

    func handOff(_ user: String, from owner: String, to host: String) async throws -> HandoffReport {
        let isRefused = state.withLock { state in
            defer { state.refusals = max(state.refusals - 1, 0) }
            return state.refusals > 0
        }
        if isRefused { throw OrchestratorError(.hostDown, cause: "\(host) is down", remedy: "start it") }
        guard var (record, _) = try await store.record(of: user) else { throw HostAgent.unknown(user) }
        record.host = host
        record.generation += 1
        record.lastHandoff = HandoffSummary(from: owner, to: host, at: 0)
        try await store.write(SMIRecord.key(user), record, expect: .any)
        var report = HandoffReport.alreadyThere(user: user, host: host, generation: record.generation)
        report.from = owner
        state.withLock { state in
            (report.wireBytes, report.totalMs) = (state.bytes, state.ms)
            state.owners[user] = host
            state.moves.append("\(user) \(owner)>\(host)")
        }
        return report
    }

    func figures(of user: String, at owner: String) async throws -> ReplicationFigures? {
        ReplicationFigures(bytes: 12_500_000)
    }

    func place(_ plan: ReplicaPlan, at owner: String) async throws {
        state.withLock { $0.plans[plan.user] = plan }
    }
}
