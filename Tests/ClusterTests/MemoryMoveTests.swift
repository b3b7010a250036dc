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
        try await check(moves: Self.moves, "4")
    }

    @Test(
        "is right in children that are forked all the time, a moment before the freeze, while pages come in and as that ends"
    )
    func forking() async throws {
        try await check(moves: Self.moves / 4, "4 3")
    }

    private func check(moves: Int, _ arguments: String) async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            try await start(cluster, argument: arguments)
            var reached = 0
            for move in 0..<moves {
                let from = try await smirun.host(of: "alice")
                let to = try #require(cluster.hosts.first { $0 != from })
                let report = try await smirun.handOff("alice", to: to)
                #expect(["precopy", "postcopy"].contains(report.mode), "move \(move)")
                // Memory travels in CRIU's images only where something is wrong.
                if report.phases["memory"] == nil {
                    let words = ["memory travels", "replica", "stream of epochs"]
                    let why = try [from, to].flatMap { host in
                        let log = try String(contentsOfFile: cluster.lab.layout.files(of: host).log, encoding: .utf8)
                        return log.split(separator: "\n").filter { line in words.contains { line.contains($0) } }
                            .suffix(4)
                    }
                    Issue.record("move \(move): not in epochs: \(why)")
                }
                reached = try await progress(smirun, beyond: reached + 20)
            }
        }
    }

    @Test(
        "is there at once at a host whose replica is warm: restored processes inherit it, whatever they inherit it through"
    )
    func inherited() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            // A shell in between: the memory passes through two forks.
            try await start(cluster, "rewriter", argument: "16 50", keepsShell: true)
            _ = try await progress(smirun, beyond: 10)
            _ = try await smirun.handOff("alice", to: cluster.hosts[1])
            _ = try await progress(smirun, beyond: 200)
            _ = try await smirun.handOff("alice", to: cluster.hosts[0])
            _ = try await progress(smirun, beyond: 400)
            let log = cluster.lab.layout.files(of: cluster.hosts[0]).log
            let figures = try await eventually("tracking goes on") {
                let text = try String(contentsOfFile: log, encoding: .utf8)
                return text.split(separator: "\n").last { $0.contains("tracking goes on") }
            }
            let pages = figures.split(separator: " ").compactMap { word in
                word.hasPrefix("inherited-pages=") ? Int(word.dropFirst(16)) : nil
            }
            #expect(pages.first ?? 0 > 4000, "\(figures)")
            let written = figures.split(separator: " ").compactMap { word in
                word.hasPrefix("written-pages=") ? Int(word.dropFirst(14)) : nil
            }
            // What was inherited and not written since need not be read again.
            #expect(written.first ?? .max < 2000, "\(figures)")
        }
    }

    @Test("is kept fresh on the hosts named as replicas, and forgotten where it is no longer wanted")
    func replicas() async throws {
        try await ClusterFixture.with(hosts: 3) { cluster in
            let (smirun, hosts) = (cluster.smirun, cluster.hosts)
            try await start(cluster)
            try await smirun.expect("replica", "add", "alice", hosts[1])
            let first = try await smirun.freshReplica(of: "alice", on: hosts[1])
            #expect(first.reason == "named")
            // Rounds go on: the epoch grows, and stays within reach.
            _ = try await eventually("another epoch") {
                try await smirun.freshReplica(of: "alice", on: hosts[1]).epoch > first.epoch ? true : nil
            }
            let report = try await smirun.handOff("alice", to: hosts[1])
            #expect(report.replica == "warm")
            // The host it came from holds one now.
            let previous = try await smirun.freshReplica(of: "alice", on: hosts[0])
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
    private func start(
        _ cluster: ClusterFixture,
        _ name: String = "checker",
        argument: String = "4",
        keepsShell: Bool = false
    ) async throws {
        let smirun = cluster.smirun
        let run = "/\(name) \(argument) /checked"
        let wait = "while [ ! -x /\(name) ]; do sleep 0.05; done; " + (keepsShell ? "\(run); true" : "exec \(run)")
        try await cluster.launch("alice", ["sh", "-c", wait])
        try await TestProgram.install(name, into: "alice", smirun)
    }

    private func progress(_ smirun: Smirun, beyond steps: Int) async throws -> Int {
        try await TestProgram.progress("alice", smirun, beyond: steps)
    }
}
