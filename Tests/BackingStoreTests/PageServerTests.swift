import Glibc
import LinuxSystem
import Synchronization
import Testing

@testable import BackingStore

@Suite("Page-in by userfaultfd", .enabled(if: geteuid() == 0, "needs root"), .serialized)
struct PageServerTests {
    static let base: UInt64 = 0x1000_0000_0000 / 4096

    /// The events of a server, for a test to wait for.
    final class Log: Sendable {
        private let events = Mutex<[PageServer.Event]>([])

        func note(_ event: PageServer.Event) { events.withLock { $0.append(event) } }
        func contains(_ event: PageServer.Event) -> Bool { events.withLock { $0.contains(event) } }
        var all: [PageServer.Event] { events.withLock { $0 } }

        func wait(for event: PageServer.Event) -> Bool {
            for _ in 0..<10_000 {
                if contains(event) { return true }
                usleep(1000)
            }
            return false
        }
    }

    /// What the program `lazy` expects to find in its pages.
    private func fill(_ store: PageStore, _ pages: Range<UInt64>, skipping late: Set<UInt64> = []) throws {
        var words = [UInt64](repeating: 0, count: 512)
        for page in pages where page % 7 != 0 && !late.contains(page) {
            for i in words.indices { words[i] = page &* 1_000_003 &+ (page % 5 == 0 ? 0 : UInt64(i)) }
            var number = page
            try words.withUnsafeBytes { bytes in
                _ = try withUnsafePointer(to: &number) {
                    try store.put(.init(start: $0, count: 1), try #require(bytes.baseAddress))
                }
            }
        }
        try store.commit(epoch: store.statistics.epoch + 1, durability: .process)
    }

    func exitCode(of pid: pid_t, seconds: Int = 30) -> Int32 {
        var status: Int32 = 0
        for _ in 0..<seconds * 1000 {
            if waitpid(pid, &status, WNOHANG) == pid { return status >> 8 | (status & 0x7f) << 8 }
            usleep(1000)
        }
        kill(pid, SIGKILL)
        waitpid(pid, &status, 0)
        return -1
    }

    /// Whether a program still runs; its end is left to be collected.
    private func isRunning(_ pid: pid_t) -> Bool {
        var information = siginfo_t()
        waitid(P_PID, id_t(pid), &information, WEXITED | WNOHANG | WNOWAIT)
        return information.si_signo == 0
    }

    @Test("Threads that fault, drop, move, unmap and fork find what they must", arguments: 1...6)
    func churn(seed: Int) throws {
        let scratch = try ScratchDirectory()
        let program = try TestPrograms.build("lazy", in: scratch)
        let store = try PageStore.create(at: scratch.file("a.pages"))
        try fill(store, Self.base..<Self.base + 2048)
        let log = Log()
        let hot = (0..<100).map { Self.base + 1024 + $0 }
        let server = try PageServer(sources: { $0 == 77 ? PageSource(store: store, hot: hot) : nil }, onEvent: log.note)
        try server.listen(at: scratch.file("lazy-pages.socket"))
        let child = try TestPrograms.spawn([
            program, scratch.file("lazy-pages.socket"), "77", "2048", "\(seed)", "churn",
        ])
        #expect(exitCode(of: child) == 0)
        #expect(log.wait(for: .restored))
        #expect(!log.all.contains { if case .failed = $0 { true } else { false } }, "\(log.all)")
        server.stop()
    }

    @Test("All pages come in without being asked for, and how long 64 MB take")
    func pushesEverything() throws {
        let scratch = try ScratchDirectory()
        let program = try TestPrograms.build("lazy", in: scratch)
        let store = try PageStore.create(at: scratch.file("a.pages"))
        try fill(store, Self.base..<Self.base + 16384)
        let log = Log()
        let server = try PageServer(sources: { _ in PageSource(store: store) }, onEvent: log.note)
        try server.listen(at: scratch.file("lazy-pages.socket"))
        let clock = ContinuousClock()
        let start = clock.now
        let child = try TestPrograms.spawn([program, scratch.file("lazy-pages.socket"), "5", "16384", "1", "wait"])
        #expect(log.wait(for: .complete(pid: 5)))
        print("page-in of 64 MB, from the program's start: \(clock.now - start)")
        #expect(exitCode(of: child) == 0)
        server.stop()
    }

    @Test("Late pages are waited for, and asked for when the process needs them")
    func latePages() throws {
        let scratch = try ScratchDirectory()
        let program = try TestPrograms.build("lazy", in: scratch)
        let store = try PageStore.create(at: scratch.file("a.pages"))
        let pages = Self.base..<Self.base + 512
        let late = Set(pages.filter { $0 % 7 != 0 && $0 % 3 == 0 })
        try fill(store, pages, skipping: late)
        let wanted = Mutex<[UInt64]>([])
        let source = PageSource(store: store, late: late) { page in wanted.withLock { $0.append(page) } }
        let server = try PageServer(sources: { _ in source })
        try server.listen(at: scratch.file("lazy-pages.socket"))
        let child = try TestPrograms.spawn([program, scratch.file("lazy-pages.socket"), "5", "512", "1", "wait"])
        // Only what was asked for is delivered, one page at a time.
        var status: Int32 = 0
        var delivered = 0
        for _ in 0..<20_000 where waitpid(child, &status, WNOHANG) == 0 {
            if let page = wanted.withLock({ $0.popLast() }) {
                try fill(store, page..<page + 1)
                source.arrived([page])
                server.wake()
                delivered += 1
            }
            usleep(200)
        }
        #expect(status == 0)
        #expect(delivered == late.count)
        server.stop()
    }

    @Test("A damaged page is never served: the process waits and the failure names the page")
    func damaged() throws {
        let scratch = try ScratchDirectory()
        let program = try TestPrograms.build("lazy", in: scratch)
        let path = scratch.file("a.pages")
        let store = try PageStore.create(at: path, compression: .none)
        try fill(store, Self.base..<Self.base + 64)
        let file = try Descriptor(open: path, O_RDWR)
        var zero: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8]
        pwrite(file.raw, &zero, 8, 4096 + 10 * (4096 + 32) + 500)
        let log = Log()
        let server = try PageServer(sources: { _ in PageSource(store: store) }, onEvent: log.note)
        try server.listen(at: scratch.file("lazy-pages.socket"))
        let child = try TestPrograms.spawn([program, scratch.file("lazy-pages.socket"), "5", "64", "1", "plain"])
        usleep(300_000)
        var status: Int32 = 0
        #expect(waitpid(child, &status, WNOHANG) == 0, "the process must wait, not go on with wrong content")
        #expect(log.all.contains { if case .failed(let error) = $0 { error.page != nil } else { false } })
        kill(child, SIGKILL)
        waitpid(child, &status, 0)
        server.stop()
    }

    private func keeperProgram(in scratch: ScratchDirectory) throws -> String {
        let program = scratch.file("smi-pagekeeper")
        let sources = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let source = "/\(sources)/Sources/smi-pagekeeper/main.c"
        try #require(try TestPrograms.run(["/usr/bin/cc", "-O1", "-o", program, source]) == 0)
        return program
    }

    @Test(
        "A server that dies leaves the process waiting; the next one goes on with what was dropped and moved",
        arguments: 1...3
    )
    func takeOver(seed: Int) throws {
        let scratch = try ScratchDirectory()
        let program = try TestPrograms.build("lazy", in: scratch)
        let keeperProgram = try keeperProgram(in: scratch)
        let store = try PageStore.create(at: scratch.file("a.pages"))
        try fill(store, Self.base..<Self.base + 2048)
        let socket = scratch.file("keeper.socket")
        let log = Log()
        @Sendable func source(_ pid: pid_t) -> PageSource? { PageSource(store: store) }
        var keeper: PageKeeper? = try PageKeeper.start(executable: keeperProgram, at: socket).0
        var server: PageServer? = try PageServer(keeper: keeper, sources: source, onEvent: log.note)
        try server?.listen(at: scratch.file("lazy-pages.socket"))
        let child = try TestPrograms.spawn([
            program, scratch.file("lazy-pages.socket"), "77", "2048", "\(seed)", seed == 3 ? "wait" : "churn",
        ])
        // Before this, what the process hands over may still be on its way to the server.
        #expect(log.wait(for: .restored))
        var servers = 1
        var generator = SeededGenerator(UInt64(seed))
        while servers < 12, isRunning(child) {
            usleep(UInt32.random(in: 1000...20000, using: &generator))
            server?.stop()
            while server?.isStopped == false { usleep(500) }
            server = nil
            usleep(20_000)
            keeper = try PageKeeper.connect(to: socket)
            server = try PageServer(keeper: keeper, sources: source, onEvent: log.note)
            try server?.takeOver()
            servers += 1
        }
        #expect(exitCode(of: child) == 0)
        #expect(!log.all.contains { if case .failed = $0 { true } else { false } }, "\(log.all)")
        print("page-in over \(servers) servers")
        server?.finish(77)
        server?.stop()
    }

    /// The program `lazy`, with all of its pages, about to fork when it is told to.
    private struct Forking: Sendable {
        let server: PageServer
        let keeper: String
        let program: pid_t
        private let input: Descriptor
        private let output: Descriptor

        init(_ tests: PageServerTests, in scratch: ScratchDirectory) async throws {
            let executable = try TestPrograms.build("lazy", in: scratch)
            let store = try PageStore.create(at: scratch.file("a.pages"))
            try tests.fill(store, PageServerTests.base..<PageServerTests.base + 64)
            keeper = scratch.file("keeper.socket")
            server = try PageServer(
                keeper: PageKeeper.start(executable: tests.keeperProgram(in: scratch), at: keeper).0,
                sources: { _ in PageSource(store: store) }
            )
            let socket = scratch.file("lazy-pages.socket")
            try server.listen(at: socket)
            let (told, said) = (try DescriptorPassing.pipe(), try DescriptorPassing.pipe())
            (input, output) = (told.write, said.read)
            let pipes = "</proc/\(getpid())/fd/\(told.read.raw) >/proc/\(getpid())/fd/\(said.write.raw)"
            program = try TestPrograms.spawn([
                "/bin/sh", "-c", "exec \"$@\" \(pipes)", "sh", executable, socket, "77", "64", "1", "fork",
            ])
            #expect(hears("checked\n"))
            let deadline = ContinuousClock.now + .seconds(30)
            while await server.pagesLeft() != [77: 0], ContinuousClock.now < deadline {
                try await Task.sleep(for: .milliseconds(1))
            }
            #expect(await server.pagesLeft() == [77: 0])
        }

        func tell() { write(input.raw, "x", 1) }

        /// Whether the program says something within ten seconds.
        func hears(_ text: String) -> Bool {
            var ready = pollfd(fd: output.raw, events: Int16(POLLIN), revents: 0)
            var bytes = [UInt8](repeating: 0, count: 64)
            guard poll(&ready, 1, 10_000) == 1 else { return false }
            return String(decoding: bytes[..<max(0, read(output.raw, &bytes, 64))], as: UTF8.self) == text
        }

        /// On the server's thread: has the program fork, and waits until the kernel tells of it.
        func beginFork(_ loop: PageServerLoop) {
            tell()
            var event = pollfd(fd: loop.spaces[0].userfault.raw, events: Int16(POLLIN), revents: 0)
            #expect(poll(&event, 1, 10_000) == 1)
        }
    }

    @Test(
        "A fork while the service ends leaves nobody waiting, and nothing behind",
        arguments: ["in the same look", "before the look"]
    )
    func lastFork(when: String) async throws {
        let scratch = try ScratchDirectory()
        let forking = try await Forking(self, in: scratch)
        let server = forking.server
        await server.onThread { loop in
            forking.beginFork(loop)
            if when == "before the look" { return loop.finish(77) }
            server.control.enqueue { loop.finish(77) }
        }
        #expect(await server.pagesLeft().isEmpty)
        #expect(try PageKeeper.connect(to: forking.keeper).list().isEmpty)
        // Nobody answers a fault any more.
        server.stop()
        #expect(forking.hears("forked\n"))
        forking.tell()
        #expect(exitCode(of: forking.program) == 0)
    }

    @Test("A child that is forked when all pages are in has them, and page-in does not go on for its sake")
    func completeFork() async throws {
        let scratch = try ScratchDirectory()
        let forking = try await Forking(self, in: scratch)
        let (spaces, left) = await forking.server.onThread { loop in
            forking.beginFork(loop)
            loop.drain(loop.spaces[0])
            return (loop.spaces.count, loop.pagesLeft())
        }
        #expect(spaces == 2)
        #expect(left == [77: 0])
        #expect(forking.hears("forked\n"))
        await forking.server.finishAll()
        forking.server.stop()
        forking.tell()
        #expect(exitCode(of: forking.program) == 0)
    }

    @Test("What a process shares with a child of its own is not taken for what it has inherited and not written")
    func forkBeforeConfirming() async throws {
        let scratch = try ScratchDirectory()
        let forking = try await Forking(self, in: scratch)
        let server = forking.server
        let pages = Self.base + 20..<Self.base + 30
        await server.onThread { loop in
            let space = loop.spaces[0]
            (space.isTracking, space.hostPid, space.unconfirmed) = (true, forking.program, [pages])
        }
        forking.tell()
        #expect(forking.hears("forked\n"))
        await server.confirmInherited()
        #expect(await server.onThread { $0.spaces[0].written } == [pages])
        #expect(await server.onThread { $0.spaces[0].unconfirmed }.isEmpty)
        forking.tell()
        #expect(exitCode(of: forking.program) == 0)
        await server.finishAll()
        server.stop()
    }
}
