import Foundation
import Glibc
import LinuxSystem
import Orchestrator
import Testing

@Suite("A machine that moves between two hosts", .serialized, .enabled(if: geteuid() == 0, "needs root"))
struct HandoffTests {
    @Test("keeps its processes, files, addresses, host name and clock")
    func everythingStays() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            try await cluster.launch(
                "alice",
                [
                    "sh", "-c",
                    "echo started; echo $$ > /pid; i=0; while :; do i=$((i+1)); echo $i > /count.new; mv /count.new /count; sleep 0.05; done",
                ]
            )
            let look =
                "cat /proc/sys/kernel/random/boot_id; hostname; ip addr show eth0 | grep -o 'inet[6]* [^ ]*'; tr '\\0' ' ' < /proc/$(cat /pid)/cmdline"
            let before = try await smirun.shell("alice", look)
            _ = try await smirun.shell(
                "alice",
                "mkdir -p /data/x; echo kept > /data/x/file; ln -s x /data/link; chmod 640 /data/x/file"
            )
            let files = "cat /data/link/file; stat -c '%a %n' /data/x/file"
            let filesBefore = try await smirun.shell("alice", files)
            var clock = try #require(Double(try await smirun.shell("alice", "cut -d' ' -f1 /proc/uptime")))
            for host in [cluster.hosts[1], cluster.hosts[0], cluster.hosts[1]] {
                let report = try await smirun.handOff("alice", to: host)
                #expect(report.to == host)
                #expect(report.frozenMs != nil)
                #expect(try await smirun.shell("alice", look) == before)
                #expect(try await smirun.shell("alice", files) == filesBefore)
                let count = try #require(Int(try await smirun.shell("alice", "cat /count")))
                let later = try #require(Int(try await smirun.shell("alice", "sleep 0.5; cat /count")))
                #expect(later > count)
                let now = try #require(Double(try await smirun.shell("alice", "cut -d' ' -f1 /proc/uptime")))
                #expect(now >= clock && now < clock + 60, "the clock was \(clock) and is \(now)")
                clock = now
            }
            #expect(try await smirun.expect("logs", "alice") == "started\n")
        }
    }

    @Test("says so where it is there already, refuses what cannot be, and goes on")
    func refusals() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            try await cluster.launch("alice")
            let here = try await smirun.host(of: "alice")
            #expect(try await smirun.handOff("alice", to: here).note?.contains("already") == true)
            #expect(try await smirun.refused("handoff", "alice", "--to", "nowhere").contains("nowhere"))
            #expect(try await smirun.refused("handoff", "alice", "--ap", "nowhere").contains("nowhere"))
            #expect(try await smirun.refused("handoff", "bob", "--to", here).contains("bob"))
            #expect(try await smirun.refused("launch", "alice", "--image", "busybox").contains("exists"))
            #expect(
                try await smirun.refused("launch", "Bad_Name", "--image", "busybox", status: 2).contains("user name")
            )
            #expect(try await smirun.refused("launch", "bob", "--image", "missing").contains("missing"))
            #expect(
                try await smirun.refused("launch", "bob", "--image", "busybox", "--", "no-such-program", status: 127)
                    .contains("no-such-program")
            )
            _ = try await smirun.refused("handoff", "alice", status: 2)
            _ = try await smirun.refused("nonsense", status: 2)
            let left = try JSONDecoder().decode(
                [Listed].self,
                from: Data(try await smirun.expect("ls", "-o", "json").utf8)
            )
            #expect(left.map(\.user) == ["alice"])
            try await smirun.expect("stop", "alice")
            #expect(try await smirun.refused("handoff", "alice", "--to", cluster.hosts[1]).contains("stopped"))
            try await smirun.expect("rm", "alice")
            #expect(try await smirun.expect("ls", "-o", "json") == "[]\n")
        }
    }

    @Test("finds what CRIU has to know of the kernel looked up before it is needed")
    func examined() async throws {
        try await ClusterFixture.with { cluster in
            for host in cluster.hosts {
                let lab = cluster.lab
                let result = try await offload { try lab.command(on: host, ["ls", "/run/criu.kdat"]).run() }
                #expect(result.status == 0, "\(host): \(result.error)")
            }
        }
    }

    @Test("passes a program's streams and exit status through, over hand-offs too")
    func execution() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            try await cluster.launch("alice")
            let failed = try await smirun.run(["exec", "alice", "--", "sh", "-c", "echo out; echo err >&2; exit 7"])
            #expect(failed.status == 7 && failed.output == "out\n" && failed.error == "err\n")
            #expect(try await smirun.run(["exec", "alice", "--", "sh", "-c", "kill -9 $$"]).status == 137)
            #expect(try await smirun.run(["exec", "alice", "--", "/no/such"]).status == 127)
            let script =
                "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo $i; [ $((i % 20)) = 0 ] && sleep 0.02; done; cat; exit 5"
            async let running = smirun.run(["exec", "alice", "--", "sh", "-c", script], input: "the end\n")
            for round in 0..<4 {
                try await smirun.handOff("alice", to: cluster.hosts[(round + 1) % 2])
            }
            let result = try await running
            #expect(result.status == 5, "\(result.error)")
            #expect(result.output == (1...2000).map { "\($0)\n" }.joined() + "the end\n")
        }
    }

    @Test("refuses a second hand-off while one is under way")
    func twoAtOnce() async throws {
        try await ClusterFixture.with(rate: "20mbit") { cluster in
            let smirun = cluster.smirun
            let program = "x=$(head -c 8000000 /dev/urandom | tr -d '\\000'); echo > /filled; while :; do sleep 1; done"
            try await cluster.launch("alice", ["sh", "-c", program])
            _ = try await eventually("the program has its memory") {
                try await smirun.run(["exec", "alice", "--", "test", "-e", "/filled"]).status == 0 ? true : nil
            }
            async let first = smirun.run(["handoff", "alice", "--to", cluster.hosts[1], "--wait", "-o", "json"])
            _ = try await eventually("the hand-off is under way") {
                try await smirun.expect("events", "alice").contains("handoff-started") ? true : nil
            }
            #expect(try await smirun.refused("handoff", "alice", "--to", cluster.hosts[1]).contains("under way"))
            let result = try await first
            #expect(result.status == 0, "\(result.error)")
        }
    }
}

private struct Listed: Decodable {
    let user: String
}
