import Glibc
import LinuxSystem
import Testing

@testable import BackingStore

@Suite("Flush decisions")
struct FlushPolicyTests {
    @Test("A bandwidth budget is kept over any pattern of sends")
    func budget() {
        var generator = SeededGenerator(3)
        var budget = BandwidthBudget(bytesPerSecond: 1e6, burst: 0.05)
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
        var idle = BandwidthBudget(bytesPerSecond: 1e6, burst: 0.05)
        #expect(idle.spend(50_000, at: 5) == 0)
        #expect(abs(idle.spend(10_000, at: 5) - 0.01) < 1e-9)
    }

    @Test("Pages written in three rounds in a row are hot, one quiet round cools them")
    func heat() {
        var heat = PageHeat()
        for _ in 0..<3 { heat.finished([1..<3, 10..<11]) }
        #expect(heat.hotSet(limit: 2) == [1, 2])
        #expect(heat.hot == [1..<3, 10..<11])
        heat.finished([2..<3])
        #expect(heat.hot == [2..<3])
        #expect(heat.hotSet(limit: 9) == [2])
        heat.finished([])
        #expect(heat.hot.isEmpty && heat.hotSet(limit: 9).isEmpty)
    }

    @Test("A round takes the coldest pages, and hot ones only where the backing file has none")
    func coldest() {
        var heat = PageHeat()
        heat.finished([0..<100])
        heat.finished([0..<60])
        heat.finished([0..<20])
        let all: [Range<UInt64>] = [0..<200]
        #expect(heat.coldest(of: all, limit: .max) { _ in true } == [20..<200])
        #expect(heat.coldest(of: all, limit: .max) { $0 >= 5 } == [0..<5, 20..<200])
        #expect(heat.coldest(of: all, limit: 200) { $0 >= 5 } == [0..<5, 20..<200])
        // None of the last round, then those of one, of two; the unheld hot ones last.
        #expect(heat.coldest(of: all, limit: 185) { $0 >= 20 } == [0..<5, 20..<200])
        #expect(heat.coldest(of: all, limit: 7) { _ in false } == [20..<27])
        heat.finished([30..<40])
        #expect(heat.coldest(of: [30..<40, 50..<60], limit: 12) { _ in true } == [30..<32, 50..<60])
    }

    /// The same by counting, page by page.
    @Test("Heat agrees with a count for each page")
    func heatModel() {
        var generator = SeededGenerator(11)
        var heat = PageHeat()
        var counts = [Int](repeating: 0, count: 300)
        for _ in 0..<300 {
            var written: [Range<UInt64>] = []
            var page: UInt64 = 0
            while page < 300 {
                let length = UInt64.random(in: 1...40, using: &generator)
                let end = min(300, page + length)
                if Int.random(in: 0..<3, using: &generator) > 0 { written.append(page..<end) }
                page = end + 1
            }
            heat.finished(written)
            let now = Set(written.joined())
            for page in 0..<300 { counts[page] = now.contains(UInt64(page)) ? counts[page] + 1 : 0 }
            let hot = (0..<300).filter { counts[$0] >= PageHeat.hotFrom }.map(UInt64.init)
            #expect(Array(heat.hot.joined()) == hot)
            #expect(heat.hotSet(limit: 500).sorted() == hot)
            let limit = Int.random(in: 0..<200, using: &generator)
            let taken = Array(heat.coldest(of: [0..<300], limit: limit) { _ in true }.joined())
            #expect(taken.count == min(limit, 300 - hot.count))
            let warmest = taken.map { counts[Int($0)] }.max() ?? 0
            #expect(Set(0..<300).subtracting(taken.map(Int.init)).allSatisfy { counts[$0] >= warmest })
        }
    }

    @Test("The pacer keeps the cost below its target and relaxes after quiet rounds")
    func pacing() {
        var pacer = RoundPacer()
        pacer.finished(dirtyPages: 16384)
        #expect(16384 * pacer.secondsPerFirstWrite / pacer.interval <= 0.015 + 1e-9)
        for _ in 0..<20 { pacer.finished(dirtyPages: 10) }
        #expect(pacer.interval < 0.11)
        pacer.finished(dirtyPages: 1 << 24)
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
        // What was expected to fit and does not.
        let left = CutMode.budget * 2
        #expect(CutMode.precopy.reconsidered(left: CutMode.budget, needsWholeCopy: false) == .precopy)
        #expect(CutMode.precopy.reconsidered(left: left, needsWholeCopy: false) == .postcopy)
        #expect(CutMode.precopy.reconsidered(left: left, needsWholeCopy: true) == .throttle(0.25))
        #expect(CutMode.postcopy.reconsidered(left: left, needsWholeCopy: true) == .postcopy)
        #expect(CutMode.furtherShare(left: left) == 0.25)
        #expect(CutMode.furtherShare(left: .infinity) == 0.1)
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
            let kind: MemoryFlush.Kind = [.live, .backlog, .live, .cut][round % 4]
            if kind == .cut { cgroup.freeze(true) }
            epoch += 1
            let report = try flush.round(
                kind,
                processes: ProcessList(still: cgroup.pids.map { FlushedProcess(hostPid: $0, inner: $0) }),
                epoch: epoch,
                replicated: epoch - 1,
                limit: kind == .cut ? .none : RoundLimit(pages: 300, wireBytes: .max),
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

    /// Runs the program `writer`, which writes 20,000 pages a second, once it has its memory.
    private func withWriter(megabytes: Int, _ body: (_ child: pid_t, _ scratch: ScratchDirectory) throws -> Void) throws
    {
        let scratch = try ScratchDirectory()
        let program = try TestPrograms.build("writer", in: scratch)
        let child = try TestPrograms.spawn([program, "\(megabytes)", "20000", "30", scratch.file("result")])
        defer {
            kill(child, SIGKILL)
            var status: Int32 = 0
            waitpid(child, &status, 0)
        }
        let deadline = ContinuousClock.now + .seconds(30)
        while true {
            // Resident pages, and those of them that are of files (proc_pid_statm(5)).
            let fields = try FileContents.string(of: "/proc/\(child)/statm").split(separator: " ").compactMap {
                Int($0)
            }
            if fields[1] - fields[2] > megabytes * 256 { break }
            try #require(ContinuousClock.now < deadline, "the program has not filled its memory")
            usleep(1000)
        }
        try body(child, scratch)
    }

    private func round(
        _ flush: MemoryFlush,
        _ kind: MemoryFlush.Kind,
        _ child: pid_t,
        _ epoch: UInt64,
        limit: RoundLimit = .none
    ) throws -> FlushReport {
        try flush.round(
            kind,
            processes: ProcessList(still: [FlushedProcess(hostPid: child, inner: child)]),
            epoch: epoch,
            replicated: 0,
            limit: limit
        ) { _ in }
    }

    @Test("Rounds without a scan bring across what the last scan has found, and no more")
    func backlog() throws {
        try withWriter(megabytes: 4) { child, scratch in
            let flush = MemoryFlush(directory: scratch.path)
            var epoch: UInt64 = 0
            func next(_ kind: MemoryFlush.Kind) throws -> FlushReport {
                epoch += 1
                return try round(flush, kind, child, epoch, limit: RoundLimit(pages: 100, wireBytes: .max))
            }
            var report = try next(.live)
            let found = report.flushedPages + report.deferredPages
            #expect(found > 1024)
            var flushed = report.flushedPages
            while report.isFull {
                report = try next(.backlog)
                #expect(report.writtenPages == 0 && report.flushedPages <= 100)
                #expect(report.inner == [child])
                flushed += report.flushedPages
            }
            #expect(report.deferredPages == 0)
            #expect(flushed == found)
            #expect(try next(.backlog).flushedPages == 0)
            #expect(try next(.live).writtenPages > 0)
        }
    }

    @Test("After a round that failed to take a process up, the next one has all of it")
    func failedTake() throws {
        try withWriter(megabytes: 4) { child, scratch in
            let directory = scratch.file("missing")
            let flush = MemoryFlush(directory: directory)
            #expect(throws: (any Error).self) { try round(flush, .live, child, 1) }
            try Directories.make(directory)
            #expect(try round(flush, .live, child, 1).flushedPages > 1024)
        }
    }

    @Test("Pages that change every round are left for the cut")
    func hotPages() throws {
        try withWriter(megabytes: 1) { child, scratch in
            let flush = MemoryFlush(directory: scratch.path)
            var last = FlushReport()
            for epoch in 1...8 as ClosedRange<UInt64> {
                usleep(100_000)
                last = try round(flush, .live, child, epoch)
            }
            #expect(last.deferredPages >= 200)
            #expect(last.flushedPages < 100)
            #expect(last.residual.pages == last.deferredPages)
            #expect(flush.hotSet(of: child, limit: 1000).reduce(0) { $0 + $1.count } >= 200)
            kill(child, SIGSTOP)
            var change: Int32 = 0
            #expect(waitpid(child, &change, WUNTRACED) == child)
            let cut = try round(flush, .cut, child, 9)
            #expect(cut.flushedPages >= 200)
            #expect(cut.deferredPages == 0)
        }
    }
}
