import Foundation
import Glibc
import IsolationProbe
import LinuxSystem
import Orchestrator
import Testing

@Suite("A machine that moves again and again", .serialized, .enabled(if: geteuid() == 0, "needs root"))
struct EnduranceTests {
    @Test("is the same after 50 hand-offs, and leaves nothing more behind than after 10")
    func fifty() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            // Always the same processes: the daemons hold descriptors for each.
            let program = """
                mkfifo /pace; exec 7>/kept 8<>/pace; echo $$ > /pid; n=0
                while :; do n=$((n+1)); echo $n >&7; read -t 0.01 x <&8; done
                """
            try await cluster.launch("alice", ["sh", "-c", program])
            let inside = "ls -l /proc/$(cat /pid)/fd | grep -o '[0-9]* -> [^[]*'; wc -l < /proc/self/mountinfo"
            let expected = try await smirun.shell("alice", inside)
            var early: [Traces] = []
            for round in 1...50 {
                try await smirun.handOff("alice", to: cluster.hosts[round % 2])
                if round == 10 || round == 50 {
                    // All pages are in, and the host that was left follows again.
                    _ = try await smirun.freshReplica(of: "alice", on: cluster.hosts[(round + 1) % 2])
                    let traces = try await Traces(of: cluster)
                    if let before = early.first {
                        #expect(traces.descriptors == before.descriptors)
                        #expect(traces.mounts == before.mounts)
                        for (now, then) in zip(traces.resident, before.resident) {
                            #expect(Double(now) <= Double(then) * 1.05 + 2048, "RSS grew from \(then) to \(now) kB")
                        }
                    }
                    early.append(traces)
                }
            }
            #expect(try await smirun.shell("alice", inside) == expected)
            let gaps = "awk '$1 != NR { print NR; exit }' /kept"
            #expect(try await smirun.shell("alice", gaps) == "", "the program's file lost or doubled a line")
        }
    }

    @Test("is confined after a hand-off as it was before")
    func confined() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            try await cluster.launch("alice")
            let secret = cluster.lab.layout.state + "-etc/secret"
            try "a host's file".write(toFile: secret, atomically: true, encoding: .utf8)
            let probe = try IsolationProbe()
            for _ in 0..<2 {
                let wrong = try await probe.check(.init(hostname: "alice", hostFile: secret)) { argv, input in
                    try await smirun.execute("alice", argv, input: input)
                }
                #expect(wrong.isEmpty, "\(wrong)")
                try await smirun.handOff("alice", to: cluster.hosts[1])
            }
        }
    }
}

/// What the hosts of a lab hold at one moment.
private struct Traces {
    var descriptors: [Int] = []
    var mounts: [Int] = []
    /// kB.
    var resident: [Int] = []

    init(of cluster: ClusterFixture) async throws {
        let lab = cluster.lab
        for host in lab.status().hosts {
            let daemon = try #require(host.daemon)
            // The source destroys its copy after the hand-off has been reported.
            let deadline = ContinuousClock.now + .seconds(10)
            var count = Int.max
            while ContinuousClock.now < deadline {
                let now = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(daemon)/fd").count
                if now == count { break }
                count = now
                try await Task.sleep(for: .milliseconds(500))
            }
            descriptors.append(count)
            mounts.append(try Self.lines("/proc/\(daemon)/mountinfo"))
            let status = try String(contentsOfFile: "/proc/\(daemon)/status", encoding: .utf8)
            let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") })
            resident.append(try #require(Int(line.split(whereSeparator: { !$0.isNumber }).first ?? "")))
        }
    }

    private static func lines(_ path: String) throws -> Int {
        try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").count
    }
}
