import Foundation
import Glibc
import Isolation
import LinuxSystem
import Orchestrator
import Testing

/// What `HandoffTests` refuses needs no preparation; here something on a host is in the way.
@Suite("A refusal by a host", .serialized, .enabled(if: geteuid() == 0, "needs root"))
struct ClusterRefusalTests {
    @Test("names a host that is down, and leaves the machine where it is")
    func hostDown() async throws {
        try await ClusterFixture.with { cluster in
            let (smirun, lab, host) = (cluster.smirun, cluster.lab, cluster.hosts[1])
            try await cluster.launch("alice", ["sh", "-c", Self.counting])
            try await offload { try lab.killHost(host) }
            let before = try await HostTraces(of: cluster)
            let asked = ContinuousClock.now
            #expect(try await smirun.refused("handoff", "alice", "--to", host, "--wait").contains(host))
            #expect(try await smirun.refused("launch", "bob", "--image", "busybox", "--host", host).contains(host))
            #expect(ContinuousClock.now - asked < .seconds(10), "a host that is down keeps nobody waiting")
            #expect(try await smirun.expect("host", "ls", "-o", "json").contains("\"state\":\"down\""))
            try await goesOn(smirun)
            try await HostTraces.expect(cluster, asBefore: before, "refusals of a host that is down")
        }
    }

    @Test(
        "names CRIU that is missing or too old, at either end, and leaves the machine where it is",
        .enabled(
            if: HelperCommand.locate("criu").map { access($0, X_OK) != 0 } ?? true,
            "this system has a CRIU of its own"
        ),
        arguments: ["source", "destination"]
    )
    func criu(_ side: String) async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            try await cluster.launch("alice", ["sh", "-c", Self.counting])
            let host = cluster.hosts[side == "source" ? 0 : 1]
            // A place that the lab's hosts share with this machine.
            let prefix = "/tmp/smirun-test-criu-\(getpid())"
            defer { try? FileManager.default.removeItem(atPath: prefix) }
            try await useCriu(prefix, on: host, cluster)
            let before = try await HostTraces(of: cluster)
            let missing = try await smirun.refused("handoff", "alice", "--to", cluster.hosts[1], "--wait")
            #expect(missing.contains("no CRIU") && missing.contains("install-criu"), "\(missing)")
            try await goesOn(smirun)
            try await HostTraces.expect(cluster, asBefore: before, "a hand-off without CRIU")
            // Set-up's private CRIU is started by its own loader; this one says what Debian 12's says.
            let libraries = prefix + "/usr/lib/x86_64-linux-gnu"
            try FileManager.default.createDirectory(atPath: libraries, withIntermediateDirectories: true)
            let loader = libraries + "/ld-linux-x86-64.so.2"
            try "#!/bin/sh\necho Version: 3.17.1\n".write(toFile: loader, atomically: true, encoding: .utf8)
            chmod(loader, 0o755)
            let old = try await smirun.refused("handoff", "alice", "--to", cluster.hosts[1], "--wait")
            #expect(old.contains("3.17.1 is too old") && old.contains("4.2"), "\(old)")
            try await goesOn(smirun)
            try await HostTraces.expect(cluster, asBefore: before, "a hand-off with an old CRIU")
        }
    }

    @Test("names an address that another program has taken, and leaves that alone")
    func addressTaken() async throws {
        try await ClusterFixture.with { cluster in
            let (smirun, lab) = (cluster.smirun, cluster.lab)
            let (first, second) = (SandboxAddress(index: 1).hostLink, SandboxAddress(index: 2).hostLink)
            try await on(cluster.hosts[0], lab, "ip link add \(first) type veth peer name taken-peer")
            let before = try await HostTraces(of: cluster)
            #expect(try await smirun.refused("launch", "alice", "--image", "busybox").contains(first))
            #expect(try await smirun.expect("ls", "-o", "json") == "[]\n")
            try await HostTraces.expect(cluster, asBefore: before, "a launch at a taken address")
            try await on(cluster.hosts[0], lab, "ip link del \(first)")
            try await cluster.launch("alice", ["sh", "-c", Self.counting])
            try await on(cluster.hosts[1], lab, "ip link add \(first) type veth peer name taken-peer")
            let moved = try await HostTraces(of: cluster)
            #expect(try await smirun.refused("handoff", "alice", "--to", cluster.hosts[1], "--wait").contains(first))
            try await goesOn(smirun)
            try await HostTraces.expect(cluster, asBefore: moved, "a hand-off to a taken address")
            #expect(first != second)
            try await on(cluster.hosts[1], lab, "ip link del \(first)")
            try await smirun.handOff("alice", to: cluster.hosts[1])
            try await goesOn(smirun)
        }
    }

    @Test("names a full disk, at launch and at the hand-off's destination")
    func diskFull() async throws {
        try await ClusterFixture.with { cluster in
            let (smirun, lab) = (cluster.smirun, cluster.lab)
            let smis = lab.layout.state + "/smis"
            // The directory alone takes the one page that there is.
            try await on(
                cluster.hosts[0],
                lab,
                "mount -t tmpfs -o size=4k,mode=0700 tmpfs \(smis); echo full > \(smis)/.full"
            )
            let before = try await HostTraces(of: cluster)
            #expect(try await smirun.refused("launch", "alice", "--image", "busybox").contains("disk is full"))
            #expect(try await smirun.expect("ls", "-o", "json") == "[]\n")
            try await HostTraces.expect(cluster, asBefore: before, "a launch on a full disk")
            try await on(cluster.hosts[0], lab, "umount \(smis)")
            try await cluster.launch("alice", ["sh", "-c", Self.counting])
            _ = try await smirun.shell("alice", "head -c 20000000 /dev/urandom > /large")
            try await on(cluster.hosts[1], lab, "mount -t tmpfs -o size=8m,mode=0700 tmpfs \(smis)")
            let moved = try await HostTraces(of: cluster)
            let refusal = try await smirun.refused("handoff", "alice", "--to", cluster.hosts[1], "--wait")
            #expect(refusal.contains("No space left on device") && refusal.contains("free space"), "\(refusal)")
            try await goesOn(smirun)
            try await HostTraces.expect(cluster, asBefore: moved, "a hand-off to a full disk")
            try await on(cluster.hosts[1], lab, "umount \(smis)")
            try await smirun.handOff("alice", to: cluster.hosts[1])
            try await goesOn(smirun)
        }
    }

    @Test("names the process that cannot be dumped and the reason, and the machine goes on")
    func notDumpable() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            try await cluster.launch("alice", ["sh", "-c", Self.counting])
            let before = try await HostTraces(of: cluster)
            // Larger than what CRIU takes along of a file without a name.
            let holder =
                "exec 9> /deleted; head -c 70000000 /dev/zero >&9; rm /deleted; echo $$ > /holder; exec sleep 100000"
            async let session = smirun.run(["exec", "alice", "--", "sh", "-c", holder])
            let pid = try await eventually("the file is open") { () -> String? in
                let found = try await smirun.run(["exec", "alice", "--", "cat", "/holder"])
                return found.status == 0 ? found.output.trimmingCharacters(in: .whitespacesAndNewlines) : nil
            }
            let expected = "process \(pid) (sleep) holds the deleted file /deleted"
            for _ in 0..<2 {
                let refusal = try await smirun.refused("handoff", "alice", "--to", cluster.hosts[1], "--wait")
                #expect(refusal.contains(expected), "\(refusal)")
                try await goesOn(smirun)
            }
            #expect(try await smirun.run(["doctor", "alice"]).output.contains("holds the deleted file /deleted"))
            _ = try await smirun.shell("alice", "kill \(pid); rm /holder")
            #expect(try await session.status == 128 + SIGTERM)
            try await HostTraces.expect(cluster, asBefore: before, "a hand-off that cannot be")
            try await smirun.handOff("alice", to: cluster.hosts[1])
            try await goesOn(smirun)
        }
    }

    @Test("leaves nothing where a launch fails")
    func failedLaunches() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            let before = try await HostTraces(of: cluster)
            let busybox = ["launch", "bob", "--image", "busybox"]
            for (arguments, status, reason) in [
                (["launch", "bob", "--image", "missing"], 1, "missing"), (busybox + ["--", "no-such"], 127, "no-such"),
                (busybox + ["--host", "nowhere"], 1, "nowhere"), (busybox + ["--ap", "nowhere"], 1, "nowhere"),
                (busybox + ["--memory", "1M"], 2, "memory"), (busybox + ["--memory", "much"], 2, "much"),
                (busybox + ["--cpus", "0"], 2, "processors"), (["launch", "-b"], 2, "user"),
                (["launch", "b b"], 2, "b b"),
            ] as [([String], Int32, String)] {
                let result = try await smirun.run(arguments)
                #expect(result.status == status, "\(arguments)")
                #expect(result.error.hasPrefix("error: ") && result.error.contains("help: "), "\(result.error)")
                #expect(result.error.contains(reason), "\(result.error)")
                try await HostTraces.expect(cluster, asBefore: before, "\(arguments)")
            }
            #expect(try await smirun.expect("ls", "-o", "json") == "[]\n")
            for command in ["attach", "logs", "stop", "rm", "ps", "inspect", "doctor"] {
                #expect(try await smirun.refused(command, "bob").contains("bob"))
            }
            #expect(try await smirun.refused("exec", "bob", "--", "true").contains("bob"))
            _ = try await smirun.refused("exec", "bob", status: 2)
        }
    }

    @Test(
        "tells whoever is not root to be it",
        arguments: [
            ["ls"], ["launch", "bob"], ["exec", "alice", "--", "true"], ["attach", "alice"], ["lab", "up"],
            ["lab", "down"],
            ["daemon"], ["image", "build", "images/busybox"], ["cluster", "init", "--address", "192.0.2.1"], ["demo"],
        ]
    )
    func notRoot(_ arguments: [String]) async throws {
        // As another user, who may yet look into any directory, so that it does not matter where the project is.
        let other =
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all,+dac_read_search"]
            + ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
        let directory = "/tmp/smirun-test-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        for name in ["smirun.sock", "session.sock"] {
            try syscall("mknod") { mknod("\(directory)/\(name)", S_IFSOCK | 0o600, 0) }
        }
        let result = try await offload {
            var command = HelperCommand(other + [Smirun.binary] + arguments)
            command.environment.append("SMIRUN_SOCKET=\(directory)/smirun.sock")
            return try command.run(timeout: .seconds(30))
        }
        #expect(result.status == 1, "\(result.output)\(result.error)")
        #expect(result.error.hasPrefix("error: "), "\(result.error)")
        let remedy = result.error.split(separator: "\n").first { $0.hasPrefix("help: ") }
        #expect(remedy?.contains("root") == true, "\(result.error)")
    }

    /// Writes a number that grows to /count.
    private static let counting =
        "n=0; while :; do n=$((n+1)); echo $n > /count.new; mv /count.new /count; sleep 0.02; done"

    /// Expects the program of alice's machine to count on.
    private func goesOn(_ smirun: Smirun) async throws {
        let before = try await count(smirun)
        _ = try await eventually("alice's program counts on") { try await self.count(smirun) > before ? true : nil }
    }

    private func count(_ smirun: Smirun) async throws -> Int {
        let text = try await eventually("alice's program counts") { () -> String? in
            let text = try await smirun.run(["exec", "alice", "--", "cat", "/count"]).output
            return text.isEmpty ? nil : text
        }
        return try #require(Int(text.trimmingCharacters(in: .whitespacesAndNewlines)))
    }

    private func on(_ host: String, _ lab: Lab, _ script: String) async throws {
        let result = try await offload { try lab.command(on: host, ["sh", "-e", "-c", script]).run() }
        #expect(result.status == 0, "\(result.error)")
    }

    /// Gives a host another place for CRIU and starts its daemon anew.
    private func useCriu(_ prefix: String, on host: String, _ cluster: ClusterFixture) async throws {
        let lab = cluster.lab
        let file = lab.layout.files(of: host).configuration + "/smirun.toml"
        let text = try String(contentsOfFile: file, encoding: .utf8)
        let other = text.replacing("[host]\n", with: "[host]\ncriu_prefix = \"\(prefix)\"\n")
        #expect(other != text, "\(text)")
        try other.write(toFile: file, atomically: true, encoding: .utf8)
        let killed = try await offload { try lab.kill(host) }
        _ = try await eventually("the daemon of \(host) is there again") {
            let now = lab.status().hosts.first { $0.name == host }?.daemon
            let view = try await cluster.smirun.run(["host", "ls", "-o", "json"])
            return now != nil && now != killed && view.status == 0 && !view.output.contains("\"down\"") ? true : nil
        }
    }
}
