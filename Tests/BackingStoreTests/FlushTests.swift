import Glibc
import Testing

@testable import BackingStore

@Suite("Flush decisions")
struct FlushPolicyTests {
    @Test("A bandwidth budget is kept over any pattern of sends")
    func budget() {
        var generator = SeededGenerator(3)
        var budget = BandwidthBudget(bytesPerSecond: 1e6, burst: 50_000)
        var now = 100.0
        var sent = 0
        let start = now
        for _ in 0..<2000 {
            let bytes = Int.random(in: 1...40_000, using: &generator)
            sent += bytes
            now += budget.spend(bytes, at: now)
            if Int.random(in: 0..<50, using: &generator) == 0 { now += Double.random(in: 0...1, using: &generator) }
            #expect(Double(sent) <= (now - start) * 1e6 + 50_000 + 1)
        }
        var idle = BandwidthBudget(bytesPerSecond: 1e6, burst: 50_000)
        #expect(idle.spend(50_000, at: 5) == 0)
        #expect(abs(idle.spend(10_000, at: 5) - 0.01) < 1e-9)
    }

    @Test("Pages written in three rounds in a row are hot, one quiet round cools them")
    func heat() {
        var heat = PageHeat()
        for _ in 0..<3 { heat.finished([1..<3, 10..<11]) }
        #expect(heat.hotSet(limit: 2) == [1, 2])
        heat.finished([2..<3])
        #expect(heat.heat(of: 1) == 0)
        #expect(heat.hotSet(limit: 9) == [2])
    }

    @Test("The pacer keeps the cost below its target and relaxes after quiet rounds")
    func pacing() {
        var pacer = RoundPacer()
        pacer.finished(dirtyPages: 16384, after: 0.5)
        #expect(16384 * pacer.secondsPerFirstWrite / pacer.interval <= 0.015 + 1e-9)
        for _ in 0..<20 { pacer.finished(dirtyPages: 10, after: pacer.interval) }
        #expect(pacer.interval < 0.11)
        pacer.finished(dirtyPages: 1 << 24, after: 1)
        #expect(pacer.interval == 30)
    }

    @Test("The mode follows the residual, the link and whether a whole copy is needed")
    func mode() {
        let link = 6.25e6
        let small = Residual(pages: 5000, wireBytesPerPage: 20, pagesPerSecond: 5000)
        #expect(CutMode.choose(small, bandwidth: link, budget: 0.03, needsWholeCopy: true) == .precopy)
        let large = Residual(pages: 16384, wireBytesPerPage: 4100, pagesPerSecond: 5000)
        #expect(CutMode.choose(large, bandwidth: link, budget: 0.03, needsWholeCopy: false) == .postcopy)
        guard case .throttle(let share) = CutMode.choose(large, bandwidth: link, budget: 0.03, needsWholeCopy: true)
        else {
            Issue.record("a whole copy is needed")
            return
        }
        #expect(share * 5000 * 4100 <= link / 2 + 1)
    }

    @Test("Range arithmetic agrees with sets", arguments: 1...30 as ClosedRange<UInt64>)
    func ranges(seed: UInt64) {
        var generator = SeededGenerator(seed)
        func random() -> [Range<UInt64>] {
            (0..<Int.random(in: 0...12, using: &generator)).map { _ in
                let start = UInt64.random(in: 0..<60, using: &generator)
                return start..<start + UInt64.random(in: 1...9, using: &generator)
            }
        }
        let (a, b) = (random(), random())
        #expect(Set(normalized(a).joined()) == Set(a.joined()))
        #expect(Set(subtract(normalized(b), from: normalized(a)).joined()) == Set(a.joined()).subtracting(b.joined()))
    }
}

@Suite("Flush of running processes", .enabled(if: geteuid() == 0, "needs root"), .serialized)
struct MemoryFlushTests {
    @Test("A replica fed with the frames holds the frozen memory after every cut")
    func replica() throws {
        let scratch = try ScratchDirectory()
        let program = try TestPrograms.build("churn", in: scratch)
        let cgroup = try TestCgroup()
        let child = try cgroup.spawn([program, "5", "2", "300"])
        defer { cgroup.end(reaping: child) }
        var replicas: [pid_t: PageStore] = [:]
        let flush = MemoryFlush(directory: scratch.path)
        flush.setLink(bytesPerSecond: 200e6)
        func apply(_ frame: MemoryFrame) throws {
            let store =
                try replicas[frame.process] ?? PageStore.create(on: RecordedDisk(), seed: UInt64(frame.process))
            replicas[frame.process] = store
            let parent = frame.parent.flatMap { replicas[$0] }
            #expect(
                try frame.bytes.withUnsafeBytes { try PageDelta.apply($0, to: store, parent: parent) }.count
                    == frame.pages
            )
        }
        var epoch: UInt64 = 0
        var wire = 0
        var pages = 0
        for round in 0..<60 {
            usleep(10_000)
            let kind: MemoryFlush.Kind = round % 3 == 2 ? .cut : .live
            if kind == .cut { cgroup.freeze(true) }
            epoch += 1
            let report = try flush.round(
                kind,
                processes: cgroup.pids.map { FlushedProcess(hostPid: $0, inner: $0) },
                epoch: epoch,
                replicated: epoch - 1,
                emit: apply
            )
            wire += report.wireBytes
            pages += report.flushedPages
            for process in report.processes {
                guard let store = replicas[process.pid] else { continue }
                if let present = process.present { try store.retain(present) }
                try store.commit(epoch: epoch, durability: .process)
            }
            guard kind == .cut else { continue }
            #expect(report.deferredPages == 0)
            for process in report.processes {
                let image = try MemoryImage(pid: process.pid)
                let store = try #require(replicas[process.pid])
                var expected = [UInt8](repeating: 0, count: 4096)
                var wrong = 0
                for page in (process.present ?? []).joined() where image.page(page, into: &expected) {
                    if try store.read(page) != expected { wrong += 1 }
                }
                #expect(wrong == 0, "\(wrong) pages of \(process.pid) differ in epoch \(epoch)")
            }
            cgroup.freeze(false)
        }
        print("flush: \(pages) pages in \(wire) bytes on the wire")
    }

    @Test("Pages that change every round are left for the cut")
    func hotPages() throws {
        let scratch = try ScratchDirectory()
        let program = try TestPrograms.build("writer", in: scratch)
        let child = try TestPrograms.spawn([program, "1", "20000", "4", scratch.file("result")])
        defer {
            kill(child, SIGKILL)
            var status: Int32 = 0
            waitpid(child, &status, 0)
        }
        let flush = MemoryFlush(directory: scratch.path)
        usleep(100_000)
        var last = FlushReport()
        for epoch in 1...8 as ClosedRange<UInt64> {
            usleep(100_000)
            last = try flush.round(
                .live,
                processes: [FlushedProcess(hostPid: child, inner: child)],
                epoch: epoch,
                replicated: 0
            ) { _ in }
        }
        #expect(last.deferredPages >= 200)
        #expect(last.flushedPages < 100)
        #expect(last.residual.pages == last.deferredPages)
        #expect(flush.hotSet(of: child, limit: 1000).reduce(0) { $0 + $1.count } >= 200)
        kill(child, SIGSTOP)
        usleep(10_000)
        let cut = try flush.round(
            .cut,
            processes: [FlushedProcess(hostPid: child, inner: child)],
            epoch: 9,
            replicated: 0
        ) { _ in }
        #expect(cut.flushedPages >= 200)
        #expect(cut.deferredPages == 0)
    }
}
