import Foundation
import Glibc
import LinuxSystem
import Orchestrator
import Testing

extension ClusterFixture {
    /// Waits, with a limit, until a machine is on a host; the daemon that is asked may be away meanwhile.
    func arrives(_ user: String, at host: String, _ location: SourceLocation = #_sourceLocation) async throws {
        let deadline = ContinuousClock.now + .seconds(60)
        while true {
            let result = try await smirun.run(["inspect", user, "-o", "json"])
            let view = try? JSONDecoder().decode(SMIView.self, from: Data(result.output.utf8))
            if view?.host == host { return }
            if ContinuousClock.now > deadline {
                let events = try await smirun.expect("events", user)
                Issue.record("\(user) did not come to \(host): \(events)", sourceLocation: location)
                return
            }
            try await Task.sleep(for: .milliseconds(100))
        }
    }

    /// Waits, with a limit, for the replica plan of an association, and returns it.
    func plan(_ user: String, at ap: String) async throws -> ReplicaPlanView {
        let deadline = ContinuousClock.now + .seconds(20)
        while true {
            let plan = try await smirun.inspect(user).plan
            if let plan, plan.ap == ap { return plan }
            try #require(ContinuousClock.now < deadline, "no plan for \(ap): \(String(describing: plan))")
            try await Task.sleep(for: .milliseconds(100))
        }
    }

    /// Adds to a host's configuration and starts its daemon again.
    func configure(_ host: String, _ more: String) async throws {
        let lab = lab
        let old = lab.status().hosts.first { $0.name == host }?.daemon
        try await offload {
            let path = lab.layout.files(of: host).configuration + "/smirun.toml"
            let text = try FileContents.string(of: path)
            try FileContents.replace(path, with: Array((text + more).utf8))
            try lab.signal(host, SIGTERM)
        }
        let deadline = ContinuousClock.now + .seconds(60)
        while ContinuousClock.now < deadline {
            let now = lab.status().hosts.first { $0.name == host }?.daemon
            let hosts = try await smirun.run(["host", "ls", "-o", "json"])
            let views = (try? JSONDecoder().decode([HostView].self, from: Data(hosts.output.utf8))) ?? []
            if now != nil, now != old, views.count == self.hosts.count, views.allSatisfy({ $0.state == "ready" }) {
                return
            }
            try await Task.sleep(for: .milliseconds(100))
        }
        Issue.record("\(host) is not ready again")
    }

    /// Sends an accounting request for alice from inside a host, as an access point would.
    func account(
        _ status: String,
        at ap: String,
        on host: String,
        secret: String = "lab",
        answered: Bool = true
    ) async throws {
        let lab = lab
        let result = try await offload {
            // The sources open their sockets after the daemon has begun to answer: radclient repeats until they have.
            let retries = answered ? ["-r", "10", "-t", "2"] : ["-r", "1", "-t", "2"]
            let command = try lab.command(on: host, ["radclient"] + retries + ["127.0.0.1:1813", "acct", secret])
            let attributes = """
                User-Name = "alice", Calling-Station-Id = "02-53-4D-00-00-01", NAS-Identifier = "\(ap)", \
                NAS-IP-Address = 127.0.0.1, Acct-Session-Id = "s-\(ap)", Acct-Status-Type = \(status)

                """
            return try command.run(input: attributes, timeout: .seconds(60))
        }
        #expect((result.status == 0) == answered, "\(result.output)\(result.error)")
    }
}

/// An HTTP server inside a host that writes down what is posted to it.
final class NoticeCatcher: Sendable {
    private let child: ChildProcess
    /// Below a directory that hosts share with the machine.
    private let directory = "/tmp/smirun-notices-\(getpid())"

    init(_ cluster: ClusterFixture, on host: String) throws {
        try FileManager.default.createDirectory(atPath: directory + "/cgi-bin", withIntermediateDirectories: true)
        let script = """
            #!/bin/sh
            cat >> \(directory)/posted
            echo >> \(directory)/posted
            printf 'Status: 204\\r\\n\\r\\n'
            """
        try script.write(toFile: directory + "/cgi-bin/amsi", atomically: true, encoding: .utf8)
        chmod(directory + "/cgi-bin/amsi", 0o755)
        let server = ["busybox", "httpd", "-f", "-p", "127.0.0.1:8099", "-h", directory]
        child = try cluster.lab.command(on: host, server).start()
    }

    /// Waits, with a limit, until all of these have been posted.
    func expect(_ parts: [String]) async throws {
        let deadline = ContinuousClock.now + .seconds(20)
        while true {
            let posted = (try? String(contentsOfFile: directory + "/posted", encoding: .utf8)) ?? ""
            if parts.allSatisfy({ posted.contains($0) }) { return }
            try #require(ContinuousClock.now < deadline, "posted: \(posted)")
            try await Task.sleep(for: .milliseconds(50))
        }
    }

    func close() {
        try? child.signal(SIGKILL)
        _ = try? child.wait()
        try? FileManager.default.removeItem(atPath: directory)
    }
}
