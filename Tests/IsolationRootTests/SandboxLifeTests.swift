import Glibc
import IsolationProbe
import LinuxSystem
import Testing

@testable import Isolation

/// Launching, looking from inside, finding again and removing, on the real kernel.
@Suite(.enabled(if: geteuid() == 0, "needs root"), .serialized)
struct SandboxLifeTests {
    /// Runs a test on a host of its own and checks that nothing of it is left.
    private func onHost(_ body: (TestHost, TestImage) async throws -> Void) async throws {
        let image = try TestImage.shared.get()
        let host = try await TestHost(image: image)
        do {
            try await body(host, image)
        } catch {
            _ = await host.tearDown()
            throw error
        }
        let left = await host.tearDown()
        #expect(left.isEmpty)
    }

    @Test func `a sandbox is confined and its commands run`() async throws {
        try await onHost { host, image in
            let spec = host.spec("alice", index: 60001, image: image)
            let process = try await host.host.launch(spec)
            print("launch phases (ms): \(process.phases)")
            let (status, output) = try await TestHost.run(spec, ["/bin/hostname"])
            #expect(status == 0)
            #expect(output == "alice\n")
            let probe = try IsolationProbe()
            let expected = IsolationProbe.Expectation(hostname: "alice", hostFile: host.paths.state)
            let wrong = try await probe.check(expected) { argv, input in
                try await TestHost.run(spec, argv, input).1
            }
            #expect(wrong.isEmpty, "\(wrong.joined(separator: "\n"))")
        }
    }
}
