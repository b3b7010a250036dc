import Dispatch
import Glibc
import LinuxSystem
import Testing

/// Threads for blocking work.
@Suite("Blocking work")
struct JobThreadsTests {
    @Test("has a thread for each piece, however many wait")
    func concurrent() async throws {
        let count = 64
        let (here, go) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for _ in 0..<count {
                group.addTask {
                    try await offload {
                        here.signal()
                        return go.wait(timeout: .now() + 30) == .success
                    }
                }
            }
            // Each has begun before any may end.
            let began = try await offload {
                (0..<count).allSatisfy { _ in here.wait(timeout: .now() + 30) == .success }
            }
            #expect(began)
            for _ in 0..<count { go.signal() }
            for try await ended in group { #expect(ended) }
        }
    }

    @Test("goes on on threads that are there, which end when nothing comes")
    func reuse() async throws {
        var threads: Set<String> = []
        for _ in 0..<40 { threads.insert(try await offload { Self.thread }) }
        #expect(threads.count < 40)
        let deadline = ContinuousClock.now + .seconds(20)
        while threads.contains(where: { access("/proc/" + $0, F_OK) == 0 }), ContinuousClock.now < deadline {
            try await Task.sleep(for: .milliseconds(100))
        }
        #expect(threads.filter { access("/proc/" + $0, F_OK) == 0 }.isEmpty)
    }

    /// The calling thread, as PID/task/TID.
    private static var thread: String {
        var name = [CChar](repeating: 0, count: 64)
        let length = readlink("/proc/thread-self", &name, name.count)
        return String(decoding: name[..<max(0, length)].map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    @Test("gives errors to whoever waits")
    func failing() async throws {
        await #expect(throws: SyscallError.self) {
            try await offload { throw SyscallError("open", code: ENOENT) }
        }
    }
}
