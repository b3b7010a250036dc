import Glibc
import LinuxSystem
import Testing

@testable import Isolation

/// What stands in the way of a dump is named, and stops nothing but the move.
@Suite(.enabled(if: geteuid() == 0, "needs root"), .serialized)
struct ObstacleTests {
    /// A sandbox that runs one of the obstacles.
    private struct Setting {
        let host: TestHost
        let spec: SandboxSpec
        let program: SandboxProcess

        /// Whether the sandbox answers, is not frozen and its link is open.
        func goesOn() async throws {
            #expect(try await host.host.survey().first?.frozen == false)
            #expect(try await TestHost.run(spec, ["/bin/hostname"]).1 == spec.user + "\n")
            let names = try await TestHost.run(
                spec,
                ["/bin/sh", "-c", "ls -A / /root | /bin/busybox grep link_remap; true"]
            ).1
            #expect(names.isEmpty)
        }
    }

    private func with(_ obstacle: String, _ body: (Setting) async throws -> Void) async throws {
        try await TestHost.with { host, image in
            let spec = host.spec("alice", index: 60001, image: image, limits: ResourceLimits(memory: 256 << 20))
            let process = try await host.host.launch(spec)
            try await Obstacle.start(obstacle, in: spec)
            try await body(Setting(host: host, spec: spec, program: process))
        }
    }

    @Test(arguments: [
        ("traced", "is being traced"), ("ghost", "holds the deleted file /root/big"),
    ])
    func `a process that cannot be dumped is named with the reason, and goes on`(
        obstacle: String,
        reason: String
    ) async throws {
        try await with(obstacle) { setting in
            let foreseen = try await setting.host.host.preflight("alice")
            #expect(foreseen.count == 1 && foreseen.first?.reason.hasPrefix(reason) == true, "\(foreseen)")
            await #expect {
                _ = try await setting.host.host.checkpoint("alice")
            } throws: { error in
                guard let error = error as? IsolationError, let name = foreseen.first else { return false }
                return error.code == .notDumpable && error.log?.isEmpty == false
                    && error.cause.contains("process \(name.pid) (obstacle) \(reason)")
            }
            try await setting.goesOn()
        }
    }

    @Test func `a sandbox without obstacles has none`() async throws {
        try await with("linked") { setting in
            let found = try await setting.host.host.preflight("alice")
            #expect(found.isEmpty)
        }
    }

    @Test func `a connection that is accepted a moment later does not stop a move`() async throws {
        try await with("pending") { setting in
            async let accepted: Void = Obstacle.accept(in: setting.host, "alice")
            _ = try await setting.host.host.checkpoint("alice")
            try await accepted
            #expect(try await setting.host.host.survey().first?.frozen == true)
            try await setting.host.host.resume("alice")
            try await setting.goesOn()
        }
    }

    @Test func `a connection that is never accepted stops the move and says so`() async throws {
        try await with("pending") { setting in
            await #expect {
                _ = try await setting.host.host.checkpoint("alice")
            } throws: { error in
                guard let error = error as? IsolationError else { return false }
                return error.code == .notDumpable && error.cause.contains("waits to be accepted")
            }
            try await setting.goesOn()
        }
    }

    @Test func `an open file that lost its name is there after a move given up, and after one made`() async throws {
        try await with("linked") { setting in
            let host = setting.host.host
            _ = try await host.checkpoint("alice")
            try await host.resume("alice")
            try await host.discardCut("alice")
            try await setting.goesOn()
            _ = try await host.checkpoint("alice")
            let upper = try TreeReader(directory: host.rootfs("alice").upper, rules: .upper)
            var bytes: [UInt8] = []
            while let chunk = try upper.nextChunk() { bytes += chunk }
            #expect(String(decoding: bytes, as: UTF8.self).contains("link_remap."), "the destination needs the name")
            try await host.resume("alice")
            try await setting.goesOn()
        }
    }
}

/// The program with the obstacles, and its run inside a sandbox.
enum Obstacle {
    /// Compiles the program, puts it inside, and starts it; returns when it says that it is ready.
    static func start(_ name: String, in spec: SandboxSpec) async throws {
        let command = "cat > /bin/obstacle && chmod 755 /bin/obstacle && (/bin/obstacle \(name) >/root/log 2>&1 &)"
        let installed = try await TestHost.run(spec, ["/bin/sh", "-c", command], program.get())
        guard installed.0 == 0 else { throw Failure(description: installed.1) }
        let wait =
            "n=0; while [ ! -e /root/ready ] && [ $n -lt 500 ]; do sleep 0.02; n=$((n+1)); done; cat /root/ready /root/log"
        let answer = try await TestHost.run(spec, ["/bin/sh", "-c", wait]).1
        guard answer.hasPrefix("ready") else { throw Failure(description: "\(name): \(answer)") }
    }

    /// Lets the pending connection be accepted once the dump has begun: from the host's side, as the network is blocked.
    static func accept(in host: TestHost, _ user: String) async throws {
        let log = host.paths.cut(user)
        try await offload {
            let deadline = ContinuousClock.now + .seconds(10)
            while !Directories.exists(log), ContinuousClock.now < deadline { poll(nil, 0, 1) }
            guard let pid = SandboxRecord(user: user, paths: host.paths).process()?.pid else {
                throw SyscallError("open")
            }
            _ = try Descriptor(open: "/proc/\(pid)/root/root/accept", O_WRONLY | O_CREAT)
        }
    }

    private static let program = Result<[UInt8], any Error> {
        let source =
            String(#filePath.dropLast("IsolationRootTests/ObstacleTests.swift".count)) + "Support/Obstacles/obstacle.c"
        let output = "/tmp/smirun-obstacle-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        defer { unlink(output) }
        let flags = ["-std=gnu17", "-O2", "-static", "-s", "-o", output, source]
        let result = try HelperCommand(["musl-gcc"] + flags).run(timeout: .seconds(120))
        guard result.status == 0 else { throw Failure(description: "musl-gcc: " + result.error) }
        return try FileContents.bytes(of: output)
    }

    struct Failure: Error, CustomStringConvertible { let description: String }
}
