import Foundation
import Glibc
import LinuxSystem
import Orchestrator
import Testing

@testable import smirun

@Suite("Real programs in a machine that moves", .serialized, .enabled(if: geteuid() == 0, "needs root"))
struct RealProgramTests {
    @Test("redis keeps its data, nginx its workers, python its threads and children, bash its jobs")
    func programs() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            try await cluster.launch("alice", image: "apps")
            _ = try await smirun.shell("alice", "redis-server --daemonize yes --save '' >/dev/null; nginx")
            _ = try await smirun.shell("alice", "redis-cli set key value")
            let python = """
                import os, threading, time
                n = [0, 0]
                def count(i):
                    while True:
                        n[i] += 1
                        time.sleep(0.01)
                for i in (0, 1):
                    threading.Thread(target=count, args=(i,), daemon=True).start()
                if os.fork() == 0:
                    while True:
                        time.sleep(0.01)
                while True:
                    open("/tmp/n.new", "w").write("%d %d" % tuple(n))
                    os.rename("/tmp/n.new", "/tmp/n")
                    time.sleep(0.01)
                """
            _ = try await smirun.shell("alice", "setsid python3 -c '\(python)' >/dev/null 2>&1 </dev/null &")
            let shell = try DemoShell(user: "alice", socket: try #require(smirun.socket))
            defer { shell.close() }
            try shell.type("mark=kept; sleep 9999 & job=$!; cd /var; vi /tmp/text\n")
            try shell.type("ihalf a")
            let processes = "ps -eo pid,comm --no-headers | grep -v -e ps -e grep -e sort -e sh$ | sort"
            let before = try await smirun.shell("alice", processes)
            for host in [cluster.hosts[1], cluster.hosts[0]] {
                try await smirun.handOff("alice", to: host)
                #expect(try await smirun.shell("alice", processes) == before)
                #expect(try await smirun.shell("alice", "redis-cli get key") == "value")
                let page = "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1/\").status)'"
                #expect(try await smirun.shell("alice", page) == "200")
                let first = try await counters(smirun)
                let second = try await counters(smirun, after: "sleep 0.3; ")
                #expect(zip(first, second).allSatisfy { $0 < $1 }, "\(first) \(second)")
            }
            try shell.type(" sentence\u{1b}:wq\n")
            #expect(try shell.ask("echo $mark $PWD; kill -0 $job && echo alive; cat /tmp/text", within: 20)
                    == "kept /var alive half a sentence")
        }
    }

    private func counters(_ smirun: Smirun, after wait: String = "") async throws -> [Int] {
        try await smirun.shell("alice", wait + "cat /tmp/n").split(separator: " ").compactMap { Int($0) }
    }
}
