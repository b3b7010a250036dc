import Dispatch
import Glibc
import LinuxSystem
import Testing

@Suite("A thread for tasks that block")
struct SerialThreadTests {
    /// An actor as any other: it runs where its callers' tasks prefer.
    private actor Counter {
        private var count = 0

        func next() -> (count: Int, thread: String) {
            count += 1
            return (count, SerialThreadTests.thread)
        }
    }

    /// The calling thread, as PID/task/TID.
    private static var thread: String {
        var name = [CChar](repeating: 0, count: 64)
        let length = readlink("/proc/thread-self", &name, name.count)
        return String(decoding: name[..<max(0, length)].map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private static func isThere(_ thread: String) -> Bool { access("/proc/" + thread, F_OK) == 0 }

    @Test("is the only one of what they await, actors and tasks in a group included")
    func one() async throws {
        let counter = Counter()
        let seen = await withTaskExecutorPreference(SerialThread()) {
            await withTaskGroup(of: String.self) { group in
                for _ in 0..<50 {
                    group.addTask {
                        await Task.yield()
                        let (_, thread) = await counter.next()
                        return thread + " " + Self.thread
                    }
                }
                return await group.reduce(into: Set<String>()) { $0.insert($1) }
            }
        }
        #expect(seen.count == 1)
        let threads = Set(seen.flatMap { $0.split(separator: " ") })
        #expect(threads.count == 1)
        #expect(await counter.next().count == 51)
    }

    @Test("may block without holding up other tasks")
    func blocking() async throws {
        let go = DispatchSemaphore(value: 0)
        let waiting = (0..<16).map { _ in
            Task(executorPreference: SerialThread()) { Self.wait(for: go) }
        }
        // More tasks block than there are processors: the others' pool is free all the same.
        for _ in waiting { _ = await Task { go.signal() }.value }
        for task in waiting { #expect(await task.value) }
    }

    private static func wait(for semaphore: DispatchSemaphore) -> Bool {
        semaphore.wait(timeout: .now() + 30) == .success
    }

    @Test("ends when nothing comes for a while, and there is another one when something does")
    func end() async throws {
        let executor = SerialThread()
        var threads: [String] = []
        for _ in 0..<2 {
            let used = await Task(executorPreference: executor) { Self.thread }.value
            threads.append(used)
            let deadline = ContinuousClock.now + .seconds(20)
            while Self.isThere(used), ContinuousClock.now < deadline {
                try await Task.sleep(for: .milliseconds(50))
            }
            #expect(!Self.isThere(used))
        }
        #expect(threads.count == 2)
    }

    @Test("loses no job, however they come")
    func many() async {
        let executor = SerialThread()
        let sum = await withTaskGroup(of: Int.self) { group in
            for i in 0..<2000 {
                group.addTask(executorPreference: i % 2 == 0 ? executor : nil) {
                    await Task(executorPreference: executor) { i }.value
                }
            }
            return await group.reduce(0, +)
        }
        #expect(sum == 2000 * 1999 / 2)
    }
}
