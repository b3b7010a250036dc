import Foundation
import LinuxSystem
import Orchestrator
import Testing

@Suite("Memory that moves in epochs", .serialized, .enabled(if: geteuid() == 0, "needs root"))
struct MemoryMoveTests {
    /// `SMIRUN_TEST_MOVES=1000` for longer runs.
    private static let moves = ProcessInfo.processInfo.environment["SMIRUN_TEST_MOVES"].flatMap { Int($0) } ?? 100

    @Test("is right in every page, in threads and children, while maps come, move, shrink and go, over 100 hand-offs")
    func checker() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            try await start(cluster)
            var reached = 0
            for move in 0..<Self.moves {
                let from = try await smirun.host(of: "alice")
                let to = try #require(cluster.hosts.first { $0 != from })
                let report = try await smirun.handOff("alice", to: to)
                #expect(report.mode == "precopy")
                // Memory travels in CRIU's images only where something is wrong.
                #expect(report.residualBytes < 8 << 20, "move \(move)")
                reached = try await progress(smirun, beyond: reached + 20)
            }
        }
    }

    @Test("is kept fresh on the hosts named as replicas, and forgotten where it is no longer wanted")
    func replicas() async throws {
        try await ClusterFixture.with(hosts: 3) { cluster in
            let (smirun, hosts) = (cluster.smirun, cluster.hosts)
            try await start(cluster)
            try await smirun.expect("replica", "add", "alice", hosts[1])
            let first = try await fresh(smirun, on: hosts[1])
            #expect(first.reason == "named")
            // Rounds go on: the epoch grows, and stays within reach.
            _ = try await eventually("another epoch") {
                try await fresh(smirun, on: hosts[1]).epoch > first.epoch ? true : nil
            }
            let report = try await smirun.handOff("alice", to: hosts[1])
            #expect(report.replica == "warm")
            // The host it came from holds one now.
            let previous = try await fresh(smirun, on: hosts[0])
            #expect(previous.epoch >= first.epoch)
            try await smirun.expect("replica", "rm", "alice", hosts[0])
            let files = cluster.lab.layout.state + "/lab/" + hosts[0] + "/state/memory/alice"
            _ = try await eventually("the files are gone") {
                FileManager.default.fileExists(atPath: files) ? nil : true
            }
            _ = try await progress(smirun, beyond: 0)
            #expect(try await smirun.refused("replica", "rm", "alice", hosts[0]).contains("no replica"))
            #expect(try await smirun.refused("replica", "add", "alice", hosts[1], status: 2).contains("runs on"))
            #expect(try await smirun.refused("replica", "add", "alice", "host9").contains("no host host9"))
        }
    }

    @Test(
        "is right in every page that processes share, whatever way they write to it, and does not travel in the freeze"
    )
    func sharer() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            try await start(cluster, "sharer", argument: "8")
            var reached = 0
            for move in 0..<(Self.moves / 3) {
                let from = try await smirun.host(of: "alice")
                let to = try #require(cluster.hosts.first { $0 != from })
                let report = try await smirun.handOff("alice", to: to)
                // There are 32 MB, which no compression makes less.
                #expect(report.residualBytes < 4 << 20, "move \(move)")
                reached = try await progress(smirun, beyond: reached + 200)
            }
        }
    }

    /// Launches `alice` with a program that checks its own memory.
    private func start(_ cluster: ClusterFixture, _ name: String = "checker", argument: String = "4") async throws {
        let smirun = cluster.smirun
        let wait = "while [ ! -x /checker ]; do sleep 0.05; done; exec /checker \(argument) /checked"
        try await cluster.launch("alice", ["sh", "-c", wait])
        let program = try await offload { try Self.build(name) }
        let install = "cat > /checker.new && chmod 755 /checker.new && mv /checker.new /checker"
        defer { try? FileManager.default.removeItem(atPath: program) }
        let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: program)))
        _ = try await smirun.execute("alice", ["sh", "-c", install], input: bytes)
        _ = try await progress(smirun, beyond: 0)
    }

    private static func build(_ name: String) throws -> String {
        let source = "/" + #filePath.split(separator: "/").dropLast().joined(separator: "/") + "/Programs/\(name).c"
        let program = "/tmp/smirun-\(name)-\(getpid())"
        let built = try HelperCommand(["cc", "-static", "-O1", "-pthread", "-o", program, source]).run(
            timeout: .seconds(60)
        )
        try #require(built.status == 0, "\(built.error)")
        return program
    }

    /// Waits, with a limit, until the program has come further; it may not have found anything wrong.
    private func progress(_ smirun: Smirun, beyond steps: Int) async throws -> Int {
        try await eventually("the program goes on") {
            let words = try await smirun.run(["exec", "alice", "--", "cat", "/checked"]).output.split(
                whereSeparator: \.isWhitespace
            )
            guard words.count == 2, let reached = Int(words[0]) else { return nil }
            try #require(words[1] == "0", "\(words[1]) pages were wrong")
            return reached > steps ? reached : nil
        }
    }

    private func fresh(_ smirun: Smirun, on host: String) async throws -> ReplicaView {
        try await eventually("a fresh replica on \(host)") {
            let listed = try await smirun.expect("replica", "ls", "alice", "-o", "json")
            let replicas = try JSONDecoder().decode([ReplicaView].self, from: Data(listed.utf8))
            return replicas.first { $0.host == host && $0.connected && $0.epoch > 0 && $0.epochsBehind <= 1 }
        }
    }
}
