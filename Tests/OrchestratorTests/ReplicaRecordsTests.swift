import Isolation
import Testing

@testable import Orchestrator

@Suite("The records of replicas after a hand-off")
struct ReplicaRecordsTests {
    private let store = MemoryStore()

    private func note(_ host: String, _ reason: ReplicaRecord.Reason) async throws {
        let record = ReplicaRecord(user: "alice", host: host, reason: reason, since: 1)
        try await store.write(ReplicaRecord.key("alice", host), record, expect: .any)
    }

    private var noted: [String: ReplicaRecord.Reason] {
        get async throws {
            let records = try await store.records(ReplicaRecord.self, prefix: ReplicaRecord.prefix("alice"))
            return Dictionary(uniqueKeysWithValues: records.map { ($0.record.host, $0.record.reason) })
        }
    }

    private func smi(on host: String, from: String?, to: String = "h2") -> SMIRecord {
        let spec = SandboxSpec(
            user: "alice",
            image: "sha256:0",
            program: ["/bin/true"],
            environment: [],
            limits: ResourceLimits(memory: 1 << 20, cpus: 1, pids: 4),
            address: SandboxAddress(index: 1),
            secret: []
        )
        return SMIRecord(
            user: "alice",
            host: host,
            generation: 2,
            state: .running,
            spec: spec,
            imageName: "busybox",
            createdAt: 0,
            attempt: "1",
            lastHandoff: from.map { HandoffSummary(from: $0, to: to, at: 0) }
        )
    }

    @Test("name the host that it came from, once, and not the one that it is on")
    func handoff() async throws {
        try await note("h2", .predicted)
        try await note("h3", .previous)
        try await note("h4", .predicted)
        try await note("h5", .named)
        for _ in 0..<2 {
            try await store.settleReplicas(of: smi(on: "h2", from: "h1"))
            #expect(try await noted == ["h1": .previous, "h4": .predicted, "h5": .named])
        }
    }

    @Test("stay those of somebody who asked for them by name", arguments: ["h1", "h2"])
    func named(_ host: String) async throws {
        try await note(host, .named)
        for _ in 0..<2 {
            try await store.settleReplicas(of: smi(on: "h2", from: "h1"))
            #expect(try await noted == ["h1": .named])
        }
    }

    @Test("are left alone where it has not come from another host to where it is")
    func stayed() async throws {
        try await note("h3", .previous)
        try await store.settleReplicas(of: smi(on: "h1", from: nil))
        try await store.settleReplicas(of: smi(on: "h1", from: "h1"))
        #expect(try await noted == ["h3": .previous])
    }
}
