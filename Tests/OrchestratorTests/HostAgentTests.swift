import Isolation
import Testing

@testable import Orchestrator

@Suite("A host's agent")
struct HostAgentTests {
    @Test("launches, refuses a second SMI of the user anywhere, and gives the address back on removal")
    func launchTwice() async throws {
        let cluster = try await FakeCluster()
        let first = try await cluster.launch()
        #expect(first.addresses.ipv4 == "10.88.0.1")
        await #expect(throws: OrchestratorError.self) { try await cluster.launch(on: "h2") }
        try await cluster.agent("h1").stop("alice")
        try await cluster.agent("h1").remove("alice", force: false)
        #expect(try await cluster.store.list(prefix: "address/").isEmpty)
        #expect(try await cluster.launch(on: "h2").addresses.ipv4 == "10.88.0.1")
    }

    @Test("leaves no record behind where the launch fails")
    func launchFails() async throws {
        let cluster = try await FakeCluster()
        cluster.sandboxes("h1").fail("launch")
        await #expect(throws: (any Error).self) { try await cluster.launch() }
        #expect(try await cluster.store.list(prefix: SMIRecord.prefix).isEmpty)
        #expect(try await cluster.store.list(prefix: "address/").isEmpty)
    }

    @Test("refuses bad user names", arguments: ["", "A", "1a", "a_b", "a b", "-a", String(repeating: "a", count: 33)])
    func userNames(_ name: String) async throws {
        let cluster = try await FakeCluster()
        await #expect(throws: OrchestratorError.self) { try await cluster.launch(name) }
    }

    @Test("moves an SMI there and back with its contents")
    func thereAndBack() async throws {
        let cluster = try await FakeCluster()
        _ = try await cluster.launch()
        let contents = cluster.world.copy("alice", on: "h1")?.contents
        for generation in 2...7 {
            let from = generation.isMultiple(of: 2) ? "h1" : "h2"
            let to = from == "h1" ? "h2" : "h1"
            let report = try await cluster.handOff(from: from, to: to)
            #expect(report.generation == generation)
            #expect(cluster.world.runningHosts("alice") == [to])
            #expect(cluster.world.copy("alice", on: to)?.contents == contents)
        }
        #expect(cluster.world.mostRunning == 1)
    }

    @Test("says so where the SMI is there already")
    func sameHost() async throws {
        let cluster = try await FakeCluster()
        _ = try await cluster.launch()
        #expect(try await cluster.handOff(to: "h1").note != nil)
    }

    @Test(
        "goes on at the source whichever step fails",
        arguments: [
            "prepareCheckpoint@h1", "checkpoint@h1", "stage@h2", "upperSink@h2", "restore@h2",
        ]
    )
    func failures(_ failing: String) async throws {
        let cluster = try await FakeCluster()
        _ = try await cluster.launch()
        let parts = failing.split(separator: "@").map(String.init)
        cluster.sandboxes(parts[1]).fail(parts[0])
        await #expect(throws: OrchestratorError.self) { try await cluster.handOff() }
        #expect(cluster.world.runningHosts("alice") == ["h1"])
        #expect(cluster.world.mostRunning == 1)
        cluster.sandboxes(parts[1]).fail()
        _ = try await cluster.handOff()
        #expect(cluster.world.runningHosts("alice") == ["h2"])
        // The source's copy goes after the report.
        try await cluster.agent("h1").settled("alice", until: .now + .seconds(10))
        #expect(cluster.world.copy("alice", on: "h1") == nil)
    }

    @Test("restores again from the cut where CRIU fails after the commit, when all processes were there")
    func restoreEnd() async throws {
        let cluster = try await FakeCluster()
        _ = try await cluster.launch()
        cluster.sandboxes("h2").fail("restoreEnd")
        // The source waits for a word that does not come on this link; how it finds out is tested elsewhere.
        let handoff = Task { _ = try? await cluster.handOff() }
        defer { handoff.cancel() }
        let deadline = ContinuousClock.now + .seconds(10)
        while cluster.world.runningHosts("alice") != ["h2"], ContinuousClock.now < deadline {
            try await Task.sleep(for: .milliseconds(5))
        }
        #expect(cluster.world.runningHosts("alice") == ["h2"])
        #expect(cluster.world.mostRunning == 1)
        #expect(cluster.world.copy("alice", on: "h2")?.contents == 2)
    }

    @Test("goes on somewhere, once, wherever the link is cut", arguments: 0...6)
    func cuts(_ messages: Int) async throws {
        let cluster = try await FakeCluster()
        _ = try await cluster.launch()
        cluster.peers.cut(after: messages)
        let moved = (try? await cluster.handOff()) != nil
        #expect(cluster.world.runningHosts("alice") == [moved ? "h2" : "h1"])
        #expect(cluster.world.mostRunning == 1)
    }

    @Test("finds out by itself that the destination resumed where its last word was lost")
    func lastWordLost() async throws {
        let cluster = try await FakeCluster()
        _ = try await cluster.launch()
        cluster.peers.cut(after: nil, answersPass: false)
        _ = try await cluster.handOff()
        #expect(cluster.world.runningHosts("alice") == ["h2"])
        #expect(cluster.world.mostRunning == 1)
    }

    @Test("commits once where the store applies the write and loses the answer")
    func commitInDoubt() async throws {
        let cluster = try await FakeCluster()
        _ = try await cluster.launch()
        cluster.store.inject(.answerLost)
        #expect(try await cluster.handOff().generation == 2)
        #expect(cluster.world.runningHosts("alice") == ["h2"])
    }

    @Test("commits later where the store is away for a while")
    func storeAway() async throws {
        let cluster = try await FakeCluster()
        _ = try await cluster.launch()
        cluster.store.inject(.unavailable, .unavailable)
        #expect(try await cluster.handOff().generation == 2)
        #expect(cluster.world.runningHosts("alice") == ["h2"])
    }
}

@Suite("A daemon that starts again")
struct AdoptionTests {
    @Test("decides from the record and from what is there")
    func decisions() async throws {
        let cluster = try await FakeCluster()
        _ = try await cluster.launch()
        var record = try #require(try await cluster.store.record(of: "alice")?.record)
        func decide(_ host: String, _ processes: Int, cut: Bool) -> AdoptionDecision {
            decideAdoption(record: record, host: host, processes: processes, hasCut: cut)
        }
        #expect(decide("h1", 3, cut: false) == .adopt)
        #expect(decide("h1", 0, cut: true) == .restoreAgain)
        #expect(decide("h1", 0, cut: false) == .lost)
        #expect(decide("h2", 3, cut: true) == .awaitResumed(owner: "h1"))
        #expect(decide("h2", 0, cut: true) == .destroy)
        record.state = .launching
        #expect(decide("h1", 3, cut: false) == .destroy)
        record.state = .stopped
        #expect(decide("h1", 0, cut: false) == .keepStopped)
        #expect(decideAdoption(record: nil, host: "h1", processes: 3, hasCut: false) == .destroy)
    }

    @Test("thaws a frozen copy that it owns, after making a late commit elsewhere impossible")
    func frozenSource() async throws {
        let cluster = try await FakeCluster()
        _ = try await cluster.launch()
        _ = try await cluster.sandboxes("h1").checkpoint("alice")
        let before = try #require(try await cluster.store.record(of: "alice"))
        try await cluster.restart("h1")
        try await settle { cluster.world.runningHosts("alice") == ["h1"] }
        let after = try #require(try await cluster.store.record(of: "alice"))
        #expect(after.record.generation == before.record.generation + 1)
        #expect(after.revision > before.revision)
    }

    @Test("restores a committed SMI again from its whole cut")
    func restoreAgain() async throws {
        let cluster = try await FakeCluster()
        _ = try await cluster.launch()
        cluster.world.set("alice", on: "h1", .init(state: .stopped, contents: 7, hasCut: true))
        try await cluster.restart("h1")
        try await settle { cluster.world.runningHosts("alice") == ["h1"] }
        #expect(cluster.world.copy("alice", on: "h1")?.contents == 7)
    }

    @Test("keeps a copy that another host owns frozen until that host runs it, then destroys it")
    func movedAway() async throws {
        let cluster = try await FakeCluster()
        _ = try await cluster.launch()
        _ = try await cluster.handOff()
        cluster.world.set("alice", on: "h1", .init(state: .frozen, contents: 7, hasCut: true))
        try await cluster.restart("h1")
        try await settle { cluster.world.copy("alice", on: "h1") == nil }
        #expect(cluster.world.runningHosts("alice") == ["h2"])
        #expect(cluster.world.mostRunning == 1)
    }

    @Test("removes what the store knows nothing of, and launches that never ended")
    func leftovers() async throws {
        let cluster = try await FakeCluster()
        cluster.world.set("bob", on: "h1", .init(state: .running, contents: 7))
        try await cluster.restart("h1")
        try await settle { cluster.world.copy("bob", on: "h1") == nil }
    }

    /// Waits until background work has led to a state; the wait is bounded, the state is not timed.
    private func settle(_ condition: @Sendable () -> Bool) async throws {
        let deadline = ContinuousClock.now + .seconds(10)
        while !condition() {
            try #require(ContinuousClock.now < deadline, "the state was not reached")
            try await Task.sleep(for: .milliseconds(5))
        }
    }
}
