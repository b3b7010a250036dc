import Glibc
import LinuxSystem
import Testing

@testable import Isolation

/// Every refusal is clear and leaves nothing behind.
@Suite(.enabled(if: geteuid() == 0, "needs root"), .serialized)
struct RefusalTests {
    /// Expects a launch to fail with a code, and that nothing of the user is on the host then.
    private func refused(
        _ spec: SandboxSpec,
        on host: TestHost,
        _ code: IsolationError.Code,
        leaves remains: [String] = []
    ) async throws {
        do {
            _ = try await host.host.launch(spec)
            Issue.record("the launch went through")
        } catch let error as IsolationError {
            #expect(error.code == code, "\(error)")
            #expect(!error.cause.isEmpty && !error.remedy.isEmpty)
        }
        #expect(try await host.host.survey().map(\.user) == remains)
        #expect(!Directories.exists(host.paths.smi(spec.user)) || remains.contains(spec.user))
    }

    @Test func `an image that is not here is named`() async throws {
        try await TestHost.with { host, image in
            var spec = host.spec("alice", index: 60001, image: image)
            spec.image = "sha256:" + String(repeating: "0", count: 64)
            try await refused(spec, on: host, .imageMissing)
            spec.image = "../../etc/passwd"
            try await refused(spec, on: host, .imageMissing)
        }
    }

    @Test func `a damaged image is refused`() async throws {
        try await TestHost.with { host, image in
            var spec = host.spec("alice", index: 60001, image: image)
            let hex = String(repeating: "1", count: 64)
            try FileContents.replace(host.paths.images + "/\(hex).erofs", with: [UInt8](repeating: 7, count: 8192))
            spec.image = "sha256:" + hex
            try await refused(spec, on: host, .imageInvalid)
        }
    }

    @Test func `a program that the image lacks is reported as not found`() async throws {
        try await TestHost.with { host, image in
            let spec = host.spec("alice", index: 60001, image: image, program: ["no-such-program"])
            try await refused(spec, on: host, .programNotFound)
        }
    }

    @Test func `a link of another program's on the address is left alone`() async throws {
        try await TestHost.with { host, image in
            let spec = host.spec("alice", index: 60001, image: image)
            let link = spec.address.hostLink
            _ = try HelperCommand(["ip", "link", "add", link, "type", "veth", "peer", "name", "smitest-peer"]).run()
            defer { _ = try? HelperCommand(["ip", "link", "del", link]).run() }
            try await refused(spec, on: host, .addressTaken)
            #expect(try NetlinkSocket(.route).link(link) != nil)
        }
    }

    @Test func `a second sandbox of a user is refused and the first goes on`() async throws {
        try await TestHost.with { host, image in
            let spec = host.spec("alice", index: 60001, image: image)
            _ = try await host.host.launch(spec)
            try await refused(spec, on: host, .sandboxExists, leaves: ["alice"])
            #expect(try await TestHost.run(spec, ["/bin/hostname"]).1 == "alice\n")
        }
    }

    @Test func `a full disk is called by its name`() async throws {
        try await TestHost.with { host, image in
            let spec = host.spec("alice", index: 60001, image: image)
            let smis = host.paths.state + "/smis"
            try Mounts.mount("tmpfs", on: smis, type: "tmpfs", options: "size=4k,mode=0700")
            defer { try? Mounts.detachAll(smis) }
            // The one page that there is.
            try FileContents.replace(smis + "/filler", with: [UInt8](repeating: 1, count: 4096))
            try await refused(spec, on: host, .diskFull, leaves: ["filler"])
        }
    }

    @Test func `what a crash left of a user's is cleared by the next launch`() async throws {
        try await TestHost.with { host, image in
            let spec = host.spec("alice", index: 60001, image: image)
            _ = try await host.host.launch(spec)
            // A machine that lost power has files and perhaps an empty cgroup; here the link is left as well.
            let cgroup = try host.host.cgroup("alice")
            try cgroup.kill()
            let next = SandboxHost(paths: host.paths)
            try await next.prepare()
            await #expect(throws: IsolationError.self) { try await next.adopt("alice") }
            _ = try await next.launch(spec)
            #expect(try await TestHost.run(spec, ["/bin/hostname"]).1 == "alice\n")
        }
    }
}
