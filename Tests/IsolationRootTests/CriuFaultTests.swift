import Glibc
import LinuxSystem
import Testing

@testable import Isolation

/// CRIU's conversation, broken off at each of its points: a source goes on, a destination has nothing that runs.
@Suite(.enabled(if: geteuid() == 0, "needs root"), .serialized)
struct CriuFaultTests {
    private struct Broken: Error, Equatable {}

    private func withSandbox(_ body: (SandboxHost, SandboxSpec, DumpRequest) async throws -> Void) async throws {
        try await TestHost.with { host, image in
            let spec = host.spec("alice", index: 60001, image: image, program: ["/bin/sleep", "1000"])
            let process = try await host.host.launch(spec)
            let images = host.paths.cut("alice")
            try Directories.make(images)
            var request = DumpRequest(user: "alice", pid: process.pid, images: images)
            request.external = host.host.masks.externalMounts(of: ProcMasks.all.present)
            try await body(host.host, spec, request)
        }
    }

    private func goesOn(_ host: SandboxHost, _ spec: SandboxSpec) async throws {
        #expect(try await TestHost.run(spec, ["/bin/hostname"]).1 == "alice\n")
        #expect(try await host.survey().first?.frozen == false)
    }

    @Test func `a dump whose freeze fails is rolled back by CRIU`() async throws {
        try await withSandbox { host, spec, request in
            for point in ["seized", "dumped"] {
                try await host.prepareCheckpoint("alice")
                let service = try #require(host.takeCriu("alice"))
                #expect(throws: Broken.self) {
                    _ = try service.dump(
                        request,
                        onSeized: { if point == "seized" { throw Broken() } },
                        onDumped: { throw Broken() }
                    )
                }
                try await goesOn(host, spec)
                try Directories.empty(request.images)
            }
        }
    }

    @Test func `an idle swrk that was killed makes the dump fail, and nothing else`() async throws {
        try await withSandbox { host, spec, request in
            try await host.prepareCheckpoint("alice")
            let service = try #require(host.takeCriu("alice"))
            try service.child.signal(SIGKILL)
            _ = try service.child.hasEnded(within: 5000)
            #expect(throws: (any Error).self) {
                _ = try service.dump(request, onSeized: {}, onDumped: {})
            }
            try await goesOn(host, spec)
        }
    }

    @Test(arguments: ["error", "no freeze", "dead daemon", "killed swrk"])
    func `nothing runs when the freeze of a restore does not come about`(fault: String) async throws {
        try await TestHost.with { host, image in
            try await TestHost.with { other, _ in
                let spec = host.spec("alice", index: 60001, image: image, program: ["/bin/sleep", "1000"])
                _ = try await host.host.launch(spec)
                _ = try await host.host.checkpoint("alice")
                let cut = try TreeReader(directory: host.paths.cut("alice"), rules: .cut)
                let upper = try TreeReader(directory: host.host.rootfs("alice").upper, rules: .upper)
                var chunks: [(cut: [UInt8]?, upper: [UInt8]?)] = []
                while let chunk = try cut.nextChunk() { chunks.append((chunk, nil)) }
                while let chunk = try upper.nextChunk() { chunks.append((nil, chunk)) }
                try await host.host.destroy("alice")
                try await other.host.stage(spec)
                let sinks = (cut: try await other.host.cutSink("alice"), upper: try await other.host.upperSink("alice"))
                for chunk in chunks {
                    if let bytes = chunk.cut { try await sinks.cut.write(bytes) }
                    if let bytes = chunk.upper { try await sinks.upper.write(bytes) }
                }
                try await sinks.cut.finish()
                try await sinks.upper.finish()
                try restore(on: other.host, spec, fault: fault)
                let cgroup = try other.host.cgroup("alice")
                #expect(CgroupTree.everyone(in: cgroup.unified, after: .seconds(5)).isEmpty)
            }
        }
    }

    private func restore(on host: SandboxHost, _ spec: SandboxSpec, fault: String) throws {
        let rootfs = host.rootfs("alice")
        try rootfs.makeDevices()
        try rootfs.mount()
        defer { try? rootfs.unmount() }
        let service = try #require(host.takeCriu("alice"))
        var request = RestoreRequest(user: "alice", images: host.paths.cut("alice"), root: rootfs.merged)
        request.external = host.masks.externalMounts(of: ProcMasks.all.present)
        let aside = try #require(host.auxiliaryCgroup) + "/cgroup.procs"
        #expect(throws: (any Error).self, "\(fault)") {
            _ = try service.restore(request) { _ in
                switch fault {
                case "error": throw Broken()
                case "dead daemon":
                    try FileContents.write("\(service.child.pid)", to: aside)
                    throw Broken()
                case "killed swrk":
                    try FileContents.write("\(service.child.pid)", to: aside)
                    try service.child.signal(SIGKILL)
                default: break
                }
            }
        }
    }
}

extension CgroupTree {
    /// The processes of a cgroup2 directory once it is empty, or at the deadline.
    static func everyone(in directory: String, after limit: Duration) -> [Substring] {
        let deadline = ContinuousClock.now + limit
        while true {
            let text = (try? FileContents.string(of: directory + "/cgroup.procs")) ?? ""
            let found = text.split(separator: "\n")
            if found.isEmpty || ContinuousClock.now >= deadline { return found }
            poll(nil, 0, 5)
        }
    }
}
