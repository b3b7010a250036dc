import Glibc
import IsolationProbe
import LinuxSystem
import Testing

@testable import Isolation

/// Launching, looking from inside, finding again and removing, on the real kernel.
@Suite(.enabled(if: geteuid() == 0, "needs root"), .serialized)
struct SandboxLifeTests {
    @Test func `a sandbox is confined and its commands run`() async throws {
        try await TestHost.with { host, image in
            let spec = host.spec("alice", index: 60001, image: image)
            let process = try await host.host.launch(spec)
            #expect(process.phases["total"] != nil)
            let (status, output) = try await TestHost.run(spec, ["/bin/hostname"])
            #expect(status == 0)
            #expect(output == "alice\n")
            let wrong = try await IsolationProbe().check(
                .init(hostname: "alice", hostFile: host.paths.state),
                runInside: TestHost.runner(spec)
            )
            #expect(wrong.isEmpty, "\(wrong.joined(separator: "\n"))")
        }
    }

    @Test func `files of the image can be read, changed and removed inside`() async throws {
        try await TestHost.with { host, image in
            let spec = host.spec("alice", index: 60001, image: image)
            _ = try await host.host.launch(spec)
            let script = "cat /etc/lower && echo new > /etc/lower && cat /etc/lower && rm /etc/lower && ls /etc/lower"
            let (status, output) = try await TestHost.run(spec, ["/bin/sh", "-c", script])
            #expect(status == 1)
            #expect(output == "from the image\nnew\n")
        }
    }

    @Test func `a stopped sandbox keeps its files and is launched again`() async throws {
        try await TestHost.with { host, image in
            let spec = host.spec("alice", index: 60001, image: image)
            _ = try await host.host.launch(spec)
            _ = try await TestHost.run(spec, ["/bin/sh", "-c", "echo kept > /root/file; rm -rf /dev; ln -s /etc /dev"])
            try await host.host.stop("alice")
            #expect(try await host.host.survey().map(\.processes) == [0])
            _ = try await host.host.launch(spec)
            let (_, output) = try await TestHost.run(
                spec,
                ["/bin/sh", "-c", "cat /root/file; ls -d /dev/null; ls /etc"]
            )
            #expect(output.hasPrefix("kept\n/dev/null\n"))
            // What the sandbox put in place of /dev has not led the host anywhere.
            #expect(!output.contains("urandom"))
        }
    }

    @Test func `the limits of memory and processes hold`() async throws {
        try await TestHost.with { host, image in
            let limits = ResourceLimits(memory: 48 << 20, cpus: 0.5, pids: 24)
            let spec = host.spec("alice", index: 60001, image: image, limits: limits)
            _ = try await host.host.launch(spec)
            let probe = try IsolationProbe()
            let run = TestHost.runner(spec)
            try await probe.install(run)
            let pids = try await probe.run(["pids"], run)
            #expect(pids["error"] == "\(EAGAIN)")
            let forked = try #require(pids["forked"].flatMap { Int($0) })
            #expect(forked > 4 && forked < 24)
            #expect(try await probe.run(["memory", "\(16 << 20)"], run)["memory"] == "0")
            #expect(try await probe.run(["memory", "\(200 << 20)"], run)["memory"] == "\(-SIGKILL)")
            #expect(try await host.host.processes("alice").contains { $0.pid == 1 && $0.name == "smi-init" })
        }
    }

    @Test func `a device that a sandbox may not use does not open even where its node is there`() async throws {
        try await TestHost.with { host, image in
            let spec = host.spec("alice", index: 60001, image: image)
            let upper = host.host.rootfs("alice").upper
            try Directories.make(upper)
            // /dev/kmsg and a disk, as a node that somehow came into the writable layer.
            #expect(mknod(upper + "/kmsg", S_IFCHR | 0o666, 1 << 8 | 11) == 0)
            #expect(mknod(upper + "/zero", S_IFCHR | 0o666, 1 << 8 | 5) == 0)
            #expect(mknod(upper + "/disk", S_IFBLK | 0o666, 254 << 8) == 0)
            _ = try await host.host.launch(spec)
            let probe = try IsolationProbe()
            let run = TestHost.runner(spec)
            try await probe.install(run)
            #expect(try await probe.run(["open", "/kmsg"], run)["open./kmsg"] == "\(EPERM)")
            #expect(try await probe.run(["open", "/disk"], run)["open./disk"] == "\(EPERM)")
            #expect(try await probe.run(["open", "/zero"], run)["open./zero"] == "0")
        }
    }

    @Test func `a daemon that starts again finds, adopts and removes a sandbox`() async throws {
        try await TestHost.with { host, image in
            let spec = host.spec("alice", index: 60001, image: image, program: ["/bin/sleep", "1000"])
            let launched = try await host.host.launch(spec)
            let next = SandboxHost(paths: host.paths)
            try await next.prepare()
            let found = try await next.survey()
            #expect(found == [SandboxPresence(user: "alice", spec: spec, processes: 2, frozen: false, hasCut: false)])
            let adopted = try await next.adopt("alice")
            #expect(adopted.pid == launched.pid && adopted.startTime == launched.startTime)
            #expect(try await TestHost.run(spec, ["/bin/hostname"]).1 == "alice\n")
            let processes = try await next.processes("alice")
            #expect(processes.map(\.pid).sorted() == [1, 2])
            #expect(processes.first { $0.pid == 2 }?.command == "/bin/sleep 1000")
            #expect(processes.first { $0.pid == 2 }?.parent == 1)
            async let exit: Void = next.waitForExit("alice")
            try await next.destroy("alice")
            try await exit
            #expect(try await next.survey().isEmpty)
            try await next.destroy("alice")
        }
    }

    @Test func `a frozen sandbox neither runs nor is reached until it is resumed`() async throws {
        try await TestHost.with { host, image in
            let spec = host.spec("alice", index: 60001, image: image)
            _ = try await host.host.launch(spec)
            try await host.host.freeze("alice")
            #expect(try await host.host.survey().first?.frozen == true)
            let endpoint = InitEndpoint(address: spec.address.ipv4, secret: spec.secret)
            #expect(throws: IsolationError.self) {
                _ = try InitConnection.connect(endpoint, timeout: .milliseconds(300))
            }
            try await host.host.resume("alice")
            #expect(try await host.host.survey().first?.frozen == false)
            #expect(try await TestHost.run(spec, ["/bin/hostname"]).1 == "alice\n")
        }
    }
}
