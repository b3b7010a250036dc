import Glibc
import LinuxSystem
import Testing

@testable import BackingStore

@Suite("Tracking over a move", .enabled(if: geteuid() == 0, "needs root"), .serialized)
struct RetrackingTests {
    /// The program `lazy` in a cgroup of its own, served from a backing file and tracked from its start on.
    private struct Restored {
        static let base = PageServerTests.base
        static let inner: pid_t = 5

        let scratch: ScratchDirectory
        let cgroup: TestCgroup
        let store: PageStore
        let server: PageServer
        let process: FlushedProcess
        /// Pages of the first mapping that came in before they were tracked: they count as written.
        let early: Int
        /// What the program is told, and what it says.
        let input: Descriptor
        let output: Descriptor

        init(_ mode: String, seed: Int, pages: UInt64) async throws {
            scratch = try ScratchDirectory()
            let program = try TestPrograms.build("lazy", in: scratch)
            cgroup = try TestCgroup()
            store = try PageStore.create(at: scratch.file("a.pages"))
            var ranges = [Self.base..<Self.base + pages]
            for i in 0..<4 as Range<UInt64> {
                let first = Self.base + pages + 16 + i * 528
                ranges.append(first..<first + 512)
            }
            try Self.fill(store, ranges)
            let log = PageServerTests.Log()
            server = try PageServer(sources: { [store] _ in PageSource(store: store) }, onEvent: log.note)
            let socket = scratch.file("lazy-pages.socket")
            try server.listen(at: socket)
            let (told, said) = (try DescriptorPassing.pipe(), try DescriptorPassing.pipe())
            (input, output) = (told.write, said.read)
            let pipes = "</proc/\(getpid())/fd/\(told.read.raw) >/proc/\(getpid())/fd/\(said.write.raw)"
            let child = try cgroup.spawn([
                "/bin/sh", "-c", "exec \"$@\" \(pipes)", "sh", program, socket, "\(Self.inner)", "\(pages)", "\(seed)",
                mode,
            ])
            process = FlushedProcess(hostPid: child, inner: Self.inner)
            try #require(log.wait(for: .restored))
            // As a restore leaves it: stopped.
            cgroup.freeze(true)
            early = try await Self.track(process, Self.base..<Self.base + pages, by: server)
            cgroup.freeze(false)
        }

        /// Has a process tracked; returns how many of these pages were in before.
        ///
        /// On the server's thread, as no more come meanwhile.
        private static func track(
            _ process: FlushedProcess,
            _ pages: Range<UInt64>,
            by server: PageServer
        ) async throws
            -> Int
        {
            try await withCheckedThrowingContinuation { continuation in
                server.control.enqueue { [loop = server.loop] in
                    continuation.resume(
                        with: Result {
                            let count = try present(process.hostPid, pages)
                            try loop.track(process.inner, hostPid: process.hostPid)
                            return count
                        }
                    )
                }
            }
        }

        private static func present(_ pid: pid_t, _ pages: Range<UInt64>) throws -> Int {
            let identity = try #require(TrackedProcess.identity(of: pid))
            let process = TrackedProcess(pid: pid, startTime: identity.startTime)
            let found = try process.scan(presence: true, mayAttach: false)
            return (found.present ?? []).joined().filter(pages.contains).count
        }

        /// Pages as the program `lazy` expects them.
        static func fill(_ store: PageStore, _ ranges: [Range<UInt64>]) throws {
            var words = [UInt64](repeating: 0, count: 512)
            for page in ranges.joined() where page % 7 != 0 {
                for i in words.indices { words[i] = page &* 1_000_003 &+ (page % 5 == 0 ? 0 : UInt64(i)) }
                var number = page
                try words.withUnsafeBytes { bytes in
                    _ = try withUnsafePointer(to: &number) {
                        try store.put(.init(start: $0, count: 1), try #require(bytes.baseAddress))
                    }
                }
            }
            try store.commit(epoch: 1, durability: .process)
        }

        /// Has the tracking go on, as an arrival does; `interrupted` ends it after the first stop.
        func trackOn(interrupted: Bool = false) async throws -> (DirtyTracker, stops: [Duration]) {
            let deadline = ContinuousClock.now + .seconds(60)
            while await server.pagesLeft().values.contains(where: { $0 > 0 }) {
                try #require(ContinuousClock.now < deadline)
                usleep(1000)
            }
            #expect(await server.tracked() == [Self.inner])
            let processes = [try #require(RetrackedProcess(process))]
            var stops: [Duration] = []
            for stop in RetrackingStop.all(for: processes) {
                let took = try await server.retrack(stop, of: processes, Stillness(cgroup: cgroup.path))
                stops.append(try #require(took))
                if interrupted { break }
                usleep(5000)
            }
            let adopted = await server.adoptable(processes)
            await server.finishAll()
            server.stop()
            let tracker = DirtyTracker()
            for process in adopted { tracker.adopt(process) }
            return (tracker, stops)
        }

        /// One round of an owner's: what was written goes into the backing file.
        func round(_ tracker: DirtyTracker, frozen: Bool) throws -> ProcessDirty {
            tracker.attach([process.hostPid])
            let found = try #require(tracker.scan(presence: frozen, frozen: frozen).first)
            _ = try ProcessMemoryReader.read(found.dirty, of: process.hostPid) { try store.put($0, $1) }
            if let present = found.present { try store.retain(present) }
            let epoch = store.statistics.epoch
            try store.commit(epoch: epoch + 1, durability: .process)
            return found
        }

        /// Pages of the frozen process that are other than in the backing file.
        func wrongPages(_ found: ProcessDirty) throws -> [UInt64] {
            let image = try MemoryImage(pid: process.hostPid)
            var expected = [UInt8](repeating: 0, count: 4096)
            var held = [UInt8](repeating: 0, count: 4096)
            return try (found.present ?? []).joined().filter { page in
                guard image.page(page, into: &expected) else { return false }
                return try !store.read(page, into: &held) || memcmp(held, expected, 4096) != 0
            }
        }

        func end() {
            server.stop()
            cgroup.end(reaping: process.hostPid)
        }
    }

    @Test("What was not written since the restore is not read again, and what was is")
    func quiet() async throws {
        let restored = try await Restored("track", seed: 1, pages: 1024)
        defer { restored.end() }
        var text = [UInt8](repeating: 0, count: 64)
        #expect(read(restored.output.raw, &text, 64) == 8)
        write(restored.input.raw, "x", 1)
        #expect(read(restored.output.raw, &text, 64) == 8)
        let (tracker, _) = try await restored.trackOn()
        let pages = Restored.base..<Restored.base + 1024
        let first = try restored.round(tracker, frozen: false)
        let written: [UInt64] = (0..<20).map { Restored.base + $0 * 3 + 1 }
        #expect(first.isTracked)
        let found = Set(first.dirty.joined().filter(pages.contains))
        #expect(found.isSuperset(of: written))
        print("tracking over a move: \(found.count) of 1024 pages are read again, \(restored.early) came in before")
        #expect(found.count <= restored.early + written.count)
        #expect(try restored.round(tracker, frozen: false).dirty.contains { $0.overlaps(pages) } == false)
    }

    @Test(
        "Nothing that a restless program does while its tracking goes over is lost",
        arguments: [("restless", 1), ("restless", 2), ("moving", 3), ("moving", 4), ("moving", 5)]
    )
    func restless(mode: String, seed: Int) async throws {
        // The first mapping is larger than what one stop takes of smaller ones.
        let pages: UInt64 = 12_000
        let restored = try await Restored(mode, seed: seed, pages: pages)
        defer { restored.end() }
        let (tracker, stops) = try await restored.trackOn()
        var read = 0
        for round in 0..<6 {
            usleep(10_000)
            let found = try restored.round(tracker, frozen: false)
            if round == 0 { read = found.dirtyPages }
            usleep(10_000)
            restored.cgroup.freeze(true)
            let cut = try restored.round(tracker, frozen: true)
            let wrong = try restored.wrongPages(cut)
            #expect(wrong.isEmpty, "round \(round): \(wrong.count) pages, first \(wrong.first ?? 0)")
            restored.cgroup.freeze(false)
        }
        print("tracking over a move, \(mode) \(seed): \(read) pages read first; stopped for \(stops)")
        #expect(read < 10_000)
    }

    @Test("No write is lost between the look before a stop and the stop")
    func sweep() async throws {
        let restored = try await Restored("sweep", seed: 1, pages: 12_000)
        defer { restored.end() }
        var text = [UInt8](repeating: 0, count: 64)
        #expect(read(restored.output.raw, &text, 64) == 8)
        let process = try #require(RetrackedProcess(restored.process))
        let server = restored.server
        // SAFETY: this test waits while the server's thread uses it.
        nonisolated(unsafe) let cgroup = restored.cgroup
        // It writes a page each 20 µs, and none twice.
        write(restored.input.raw, "x", 1)
        let meanwhile: Int = try await withCheckedThrowingContinuation { continuation in
            server.control.enqueue { [loop = server.loop] in
                continuation.resume(
                    with: Result {
                        let space = try #require(loop.spaces.first { $0.pid == Restored.inner })
                        var running = try OpenedView(pid: process.process.hostPid)
                        let parts = process.parts.filter { space.lookAhead($0, &running) }
                        let seen = pageCount(normalized(space.written))
                        usleep(20_000)
                        cgroup.freeze(true)
                        var stopped = try OpenedView(pid: process.process.hostPid)
                        #expect(parts.allSatisfy { space.retrack($0, to: process.userfault, &stopped) })
                        cgroup.freeze(false)
                        return pageCount(normalized(space.written)) - seen
                    }
                )
            }
        }
        #expect(meanwhile > 0)
        let tracker = DirtyTracker()
        for process in await server.adoptable([process]) { tracker.adopt(process) }
        await server.finishAll()
        server.stop()
        #expect(read(restored.output.raw, &text, 64) == 8)
        let found = try restored.round(tracker, frozen: false)
        #expect(found.isTracked && found.dirtyPages < 14_000)
        cgroup.freeze(true)
        let wrong = try restored.wrongPages(try restored.round(tracker, frozen: true))
        #expect(wrong.isEmpty, "\(wrong.count) pages, first \(wrong.first ?? 0)")
        cgroup.freeze(false)
    }

    @Test("What has not gone over when a hand-off comes is read whole")
    func interrupted() async throws {
        let restored = try await Restored("restless", seed: 7, pages: 12_000)
        defer { restored.end() }
        let (tracker, stops) = try await restored.trackOn(interrupted: true)
        #expect(stops.count == 1)
        _ = try restored.round(tracker, frozen: false)
        restored.cgroup.freeze(true)
        let cut = try restored.round(tracker, frozen: true)
        #expect(try restored.wrongPages(cut).isEmpty)
        restored.cgroup.freeze(false)
    }

    @Test("Mappings are taken whole; small and very large ones are left to be read")
    func parts() {
        let mapping: Range<UInt64> = 0x10000..<0x4000_0000
        func pages(_ present: [Range<UInt64>]) -> Int? { RetrackedPart(mapping, present: present)?.pages }
        #expect(pages([]) == nil)
        #expect(pages([16..<47]) == nil)
        #expect(pages([16..<32, 40..<56]) == 32)
        #expect(pages([16..<16400]) == 16384)
        #expect(pages([16..<10016, 20000..<26385]) == nil)
        #expect(RetrackedPart(mapping, present: [16..<48])?.range == mapping)
    }
}
