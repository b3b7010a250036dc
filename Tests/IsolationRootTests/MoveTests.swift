import Glibc
import IsolationProbe
import LinuxSystem
import Synchronization
import Testing

@testable import Isolation

/// A sandbox that was dumped, carried over and restored is what it was, and as confined.
@Suite(.enabled(if: geteuid() == 0, "needs root"), .serialized)
struct MoveTests {
    /// Carries a stream over.
    private func copy(_ source: any ChunkSource, to sink: any ChunkSink) async throws {
        while let chunk = try await source.next() {
            #expect(chunk.count <= 256 << 10)
            try await sink.write(chunk)
        }
        try await sink.finish()
    }

    /// Collects a stream.
    private func collect(_ source: any ChunkSource) async throws -> [[UInt8]] {
        var chunks: [[UInt8]] = []
        while let chunk = try await source.next() { chunks.append(chunk) }
        return chunks
    }

    /// Moves a sandbox from one host to another; both share the tests' network, so the source goes first.
    private func move(
        _ spec: SandboxSpec,
        from source: TestHost,
        to destination: TestHost
    ) async throws -> SandboxProcess {
        let report = try await source.host.checkpoint(spec.user)
        #expect(report.bytes > 0)
        let cut = try await collect(source.host.readCut(spec.user))
        let upper = try await collect(source.host.readUpper(spec.user))
        try await source.host.destroy(spec.user)
        try await destination.host.stage(spec)
        try await copy(Chunks(upper), to: destination.host.upperSink(spec.user))
        try await copy(Chunks(cut), to: destination.host.cutSink(spec.user))
        try await destination.host.sealCut(spec.user)
        let process = try await destination.host.restore(spec.user)
        let presence = try await destination.host.survey().first
        #expect(presence?.frozen == true && presence?.hasCut == true)
        try await destination.host.resume(spec.user)
        try await destination.host.discardCut(spec.user)
        return process
    }

    private func onTwoHosts(_ body: (TestHost, TestHost, TestImage) async throws -> Void) async throws {
        try await TestHost.with { first, image in
            try await TestHost.with { second, _ in try await body(first, second, image) }
        }
    }

    @Test func `the isolation suite passes again after a move, and after another one back`() async throws {
        try await onTwoHosts { first, second, image in
            let script = "i=0; while :; do i=$((i+1)); echo $i > /root/new; mv /root/new /root/count; sleep 0.01; done"
            let spec = first.spec("alice", index: 60001, image: image, program: ["/bin/sh", "-c", script])
            _ = try await first.host.launch(spec)
            let counter = ["/bin/sh", "-c", "until cat /root/count; do sleep 0.01; done"]
            let probe = try IsolationProbe()
            let run = TestHost.runner(spec)
            for (source, destination) in [(first, second), (second, first)] {
                let before = try await TestHost.run(spec, counter).1
                _ = try await move(spec, from: source, to: destination)
                let wrong = try await probe.check(
                    .init(hostname: "alice", hostFile: first.paths.state),
                    runInside: run
                )
                #expect(wrong.isEmpty, "\(wrong.joined(separator: "\n"))")
                // CRIU's own priority is higher.
                for process in try await destination.host.pids("alice") {
                    #expect(getpriority(Int32(PRIO_PROCESS.rawValue), UInt32(process.outer)) == 0)
                }
                let after = try await TestHost.run(spec, counter).1
                #expect((Int(after.dropLast()) ?? 0) > (Int(before.dropLast()) ?? 0))
            }
            try await probe.install(run)
            // The limits came along.
            #expect(try await probe.run(["memory", "\(200 << 20)"], run)["memory"] == "\(-SIGKILL)")
            #expect(try await probe.run(["pids"], run)["error"] == "\(EAGAIN)")
        }
    }

    @Test func `a sandbox whose move is given up goes on where it was`() async throws {
        try await TestHost.with { host, image in
            let spec = host.spec("alice", index: 60001, image: image, program: ["/bin/sleep", "1000"])
            let launched = try await host.host.launch(spec)
            try await host.host.prepareCheckpoint("alice")
            _ = try await host.host.checkpoint("alice")
            #expect(try await host.host.survey().first?.frozen == true)
            try await host.host.resume("alice")
            try await host.host.discardCut("alice")
            #expect(try await TestHost.run(spec, ["/bin/hostname"]).1 == "alice\n")
            #expect(try await host.host.adopt("alice").pid == launched.pid)
        }
    }

    @Test func `a cut that is whole is restored by a daemon that starts again`() async throws {
        try await onTwoHosts { first, second, image in
            let spec = first.spec("alice", index: 60001, image: image, program: ["/bin/sleep", "1000"])
            _ = try await first.host.launch(spec)
            _ = try await first.host.checkpoint("alice")
            let cut = try await collect(first.host.readCut("alice"))
            let upper = try await collect(first.host.readUpper("alice"))
            try await first.host.destroy("alice")
            try await second.host.stage(spec)
            try await copy(Chunks(upper), to: second.host.upperSink("alice"))
            try await copy(Chunks(cut), to: second.host.cutSink("alice"))
            try await second.host.sealCut("alice")
            // Another daemon's eyes: nothing is in memory, the link and the cgroup of the first attempt are there.
            let next = SandboxHost(paths: second.paths)
            try await next.prepare()
            #expect(try await next.survey().first?.hasCut == true)
            try await next.stage(spec)
            _ = try await next.restore("alice")
            try await next.resume("alice")
            #expect(try await TestHost.run(spec, ["/bin/hostname"]).1 == "alice\n")
            try await next.destroy("alice")
        }
    }

    @Test func `images that are damaged are refused and nothing runs`() async throws {
        try await onTwoHosts { first, second, image in
            let spec = first.spec("alice", index: 60001, image: image)
            _ = try await first.host.launch(spec)
            _ = try await first.host.checkpoint("alice")
            let cut = try await collect(first.host.readCut("alice"))
            try await first.host.resume("alice")
            try await first.host.destroy("alice")
            try await second.host.stage(spec)
            let sink = try await second.host.cutSink("alice")
            await #expect(throws: (any Error).self) {
                for chunk in cut { try await sink.write(chunk.map { $0 ^ 0x55 }) }
                try await sink.finish()
            }
            await #expect(throws: IsolationError.self) { _ = try await second.host.restore("alice") }
            #expect(try await second.host.survey().first?.processes == 0)
        }
    }
}

/// Chunks that were collected, as a source.
private final class Chunks: ChunkSource {
    private let index: Atomic<Int>
    private let chunks: [[UInt8]]

    init(_ chunks: [[UInt8]]) {
        self.chunks = chunks
        index = Atomic(0)
    }

    func next() async throws -> [UInt8]? {
        let at = index.add(1, ordering: .relaxed).oldValue
        return at < chunks.count ? chunks[at] : nil
    }
}
