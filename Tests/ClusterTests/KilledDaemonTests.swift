import Foundation
import Glibc
import LinuxSystem
import Orchestrator
import Testing

@Suite("A hand-off whose daemons are killed", .serialized, .enabled(if: geteuid() == 0, "needs root"))
struct KilledDaemonTests {
    /// Moments after the hand-off's start, spread over all of its steps (about 150 ms on a calm machine), for each side.
    @Test("leaves exactly one running copy, which goes on", arguments: ["source", "destination"])
    func killed(_ side: String) async throws {
        let quick = try? FileContents.string(of: "/sys/kernel/rcu_expedited")
        defer { #expect((try? FileContents.string(of: "/sys/kernel/rcu_expedited")) == quick) }
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            let program = "n=0; while :; do n=$((n+1)); echo $n > /count.new; mv /count.new /count; sleep 0.02; done"
            try await cluster.launch("alice", ["sh", "-c", program])
            // From now on the host that it is not on holds a replica.
            try await smirun.handOff("alice", to: cluster.hosts[1])
            for delay in stride(from: 0, to: 300, by: 25) {
                let from = try await smirun.host(of: "alice")
                let to = from == cluster.hosts[0] ? cluster.hosts[1] : cluster.hosts[0]
                let before = try await count(smirun)
                async let handoff = smirun.run(["handoff", "alice", "--to", to, "--wait", "-o", "json"])
                try await Task.sleep(for: .milliseconds(delay))
                let victim = side == "source" ? from : to
                let lab = cluster.lab
                _ = try await offload { try lab.kill(victim) }
                _ = try await handoff
                try await settled(cluster)
                _ = try await eventually("the program counts on after a kill of the \(side) at \(delay) ms") {
                    try await self.count(smirun) > before ? true : nil
                }
                #expect(try cluster.copies(of: "alice") == 1, "after a kill of the \(side) at \(delay) ms")
                // Where it did not move, its ownership has been made certain by a new generation: replicas follow that.
                let host = try await smirun.host(of: "alice")
                _ = try await smirun.freshReplica(of: "alice", on: host == from ? to : from)
            }
        }
    }

    private func count(_ smirun: Smirun) async throws -> Int {
        try #require(Int(try await smirun.shell("alice", "cat /count")))
    }

    /// Waits, with a limit, until both daemons answer and the SMI is somewhere, running and not moving.
    private func settled(_ cluster: ClusterFixture) async throws {
        let deadline = ContinuousClock.now + .seconds(60)
        while ContinuousClock.now < deadline {
            let hosts = try await cluster.smirun.run(["host", "ls", "-o", "json"])
            let view = try await cluster.smirun.run(["inspect", "alice", "-o", "json"])
            if hosts.status == 0, !hosts.output.contains("\"down\""), view.status == 0,
                view.output.contains("\"state\":\"running\""), try cluster.copies(of: "alice") == 1
            {
                return
            }
            try await Task.sleep(for: .milliseconds(50))
        }
        let view = try await cluster.smirun.run(["inspect", "alice", "-o", "json"]).output
        let events = try await cluster.smirun.run(["events", "alice"]).output.split(separator: "\n").suffix(8)
        let copies = try cluster.copies(of: "alice")
        Issue.record("not settled within a minute: \(copies) copies; \(view); \(events.joined(separator: "; "))")
    }
}
