import CLinux
import Glibc
import LinuxSystem
import Testing

@testable import BackingStore

@Suite("Dirty tracking of running processes", .enabled(if: geteuid() == 0, "needs root"), .serialized)
struct DirtyTrackingTests {
    /// A page store per process, filled the way live rounds do.
    struct Stores {
        var byProcess: [String: PageStore] = [:]

        mutating func take(_ round: [ProcessDirty], _ scratch: ScratchDirectory) throws {
            for process in round {
                let key = "\(process.pid)-\(process.startTime)"
                let store = try byProcess[key] ?? PageStore.create(at: scratch.file(key))
                byProcess[key] = store
                _ = try ProcessMemoryReader.read(process.dirty, of: process.pid) { try store.put($0, $1) }
                if let present = process.present { try store.retain(present) }
                let epoch = store.statistics.epoch
                try store.commit(epoch: epoch + 1, durability: .process)
            }
            let alive = Set(round.map { "\($0.pid)-\($0.startTime)" })
            for key in byProcess.keys where !alive.contains(key) {
                byProcess[key] = nil
                unlink(scratch.file(key))
            }
        }
    }

    /// Compares a frozen process with its store, page by page; returns the number of pages compared.
    private func compare(_ process: ProcessDirty, _ store: PageStore, _ note: String) throws -> Int {
        let image = try MemoryImage(pid: process.pid)
        var expected = [UInt8](repeating: 0, count: 4096)
        var held = [UInt8](repeating: 0, count: 4096)
        var compared = 0
        var wrong: [UInt64] = []
        for range in process.present ?? [] {
            for number in range where image.page(number, into: &expected) {
                let found = try store.read(number, into: &held)
                if !found || held != expected {
                    wrong.append(number)
                    let bytes = zip(held, expected).enumerated().filter { $1.0 != $1.1 }.map(\.offset)
                    print(
                        "\(note): page \(number) of \(process.pid) \(found ? "differs" : "is missing"):",
                        "\(bytes.count) bytes from \(bytes.first ?? -1), dirty \(process.dirty.contains { $0.contains(number) }),",
                        process.mappings.filter { $0.range.contains(number * 4096) }
                    )
                }
                compared += 1
            }
        }
        #expect(wrong.isEmpty, "\(note): \(wrong.count) pages of \(process.pid) differ, first \(wrong.first ?? 0)")
        #expect(store.statistics.pages == UInt64(compared), "\(note): pages of \(process.pid) that are gone are held")
        return compared
    }

    /// More seeds for a longer search: SMIRUN_CHURN_SEEDS=3-40.
    static let seeds: ClosedRange<Int> = {
        let bounds = (getenv("SMIRUN_CHURN_SEEDS").map { String(cString: $0) } ?? "1-2").split(separator: "-")
        return (Int(bounds.first ?? "1") ?? 1)...(Int(bounds.last ?? "2") ?? 2)
    }()

    @Test("After every round the store equals the frozen memory of every process", arguments: seeds)
    func churn(seed: Int) throws {
        let rounds = 150
        let scratch = try ScratchDirectory()
        let program = try TestPrograms.build("churn", in: scratch)
        let cgroup = try TestCgroup()
        let child = try cgroup.spawn([program, "\(seed)", "3", "150"])
        defer { cgroup.end(reaping: child) }
        let tracker = DirtyTracker()
        var generator = SeededGenerator(UInt64(seed))
        var stores = Stores()
        var compared = 0
        var untracked = 0
        for round in 0..<rounds {
            for _ in 0..<Int.random(in: 0...2, using: &generator) {
                usleep(UInt32.random(in: 500...15000, using: &generator))
                tracker.attach(cgroup.pids)
                try stores.take(tracker.scan(), scratch)
            }
            usleep(UInt32.random(in: 500...15000, using: &generator))
            cgroup.freeze(true)
            tracker.attach(cgroup.pids)
            let cut = tracker.scan(presence: true, frozen: true)
            #expect(
                Set(cut.map(\.pid)) == Set(cgroup.pids.filter { TrackedProcess.identity(of: $0)?.isZombie == false })
            )
            try stores.take(cut, scratch)
            for process in cut {
                untracked += process.isTracked ? 0 : 1
                if let store = stores.byProcess["\(process.pid)-\(process.startTime)"] {
                    compared += try compare(process, store, "seed \(seed) round \(round)")
                }
            }
            cgroup.freeze(false)
        }
        print("churn \(seed): \(compared) pages compared in \(rounds) rounds, \(untracked) whole reads")
        #expect(compared > 1000)
    }

    @Test("A stopped process is read whole, and tracked once it runs again; its signals and calls go on")
    func stopped() throws {
        let child = try TestPrograms.spawn(["/bin/sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.01; done"])
        // Once it has a child, its trap is set.
        let children = "/proc/\(child)/task/\(child)/children"
        let deadline = ContinuousClock.now + .seconds(10)
        while try FileContents.string(of: children).isEmpty { try #require(ContinuousClock.now < deadline) }
        var change: Int32 = 0
        kill(child, SIGSTOP)
        #expect(waitpid(child, &change, WUNTRACED) == child)
        let tracker = DirtyTracker()
        tracker.attach([child])
        for _ in 0..<2 {
            let round = try #require(tracker.scan().first)
            #expect(!round.isTracked)
            #expect(round.dirtyPages > 20)
        }
        kill(child, SIGCONT)
        #expect(waitpid(child, &change, WCONTINUED) == child)
        #expect(tracker.scan().first?.isTracked == true)
        #expect(tracker.scan().first.map { $0.dirtyPages < 60 } == true)
        kill(child, SIGTERM)
        var status: Int32 = 0
        waitpid(child, &status, 0)
        #expect(status >> 8 == 7)
        #expect(tracker.scan().isEmpty)
    }

    @Test("What another's userfaultfd protects already is read whole once, as none of it has been seen")
    func trackedByAnother() throws {
        let scratch = try ScratchDirectory()
        let program = try TestPrograms.build("writer", in: scratch)
        let cgroup = try TestCgroup()
        let child = try cgroup.spawn([program, "4", "0", "60", scratch.file("result")])
        defer { cgroup.end(reaping: child) }
        // It is there, and written; behind the program's own mappings.
        var found: Mapping?
        let deadline = ContinuousClock.now + .seconds(10)
        while found == nil {
            try #require(ContinuousClock.now < deadline)
            var scan = try MemoryScan(pid: child)
            found = try Mapping.all(of: child).first { mapping in
                var present: [smi_region] = []
                guard mapping.isPrivate, mapping.inode == 0 else { return false }
                return (try? scan.present(mapping, into: &present)) != nil && pageCount(present.map(\.pages)) >= 1024
            }
        }
        let range = try #require(found).range
        let pages = range.lowerBound / 4096..<range.upperBound / 4096
        // As a child has it that is forked while its parent's pages come in: protected, by what is not its tracker's.
        let other = try #require(TrackedProcess.injected(into: child))
        let mode = Int32(SMI_UFFD_WP.rawValue)
        try #require(smi_uffd_register(other.raw, range.lowerBound, range.upperBound, mode) == 0)
        var scan = try MemoryScan(pid: child)
        var ignored: [smi_region] = []
        try scan.written(range, isAnonymous: true, into: &ignored)
        let tracker = DirtyTracker()
        tracker.attach([child])
        let first = try #require(tracker.scan().first)
        #expect(pageCount(intersection(first.dirty, [pages])) >= 1024)
        let second = try #require(tracker.scan().first)
        #expect(second.isTracked && pageCount(intersection(second.dirty, [pages])) < 16)
        withExtendedLifetime(other) {}
    }

    @Test("Injection does not disturb system calls that wait, ignored SIGTRAP or another user's process")
    func undisturbed() throws {
        let scratch = try ScratchDirectory()
        let program = try TestPrograms.build("waiter", in: scratch)
        chmod(scratch.path, 0o755)
        for user in ["0", "65534"] {
            let child = try TestPrograms.spawn([program, user])
            usleep(30_000)
            for _ in 0..<20 {
                let tracker = DirtyTracker()
                tracker.attach([child])
                #expect(tracker.scan().first?.isTracked == true)
                usleep(2000)
                tracker.detach()
            }
            var status: Int32 = 0
            waitpid(child, &status, 0)
            #expect(status == 0, "the program saw a disturbance (status \(status >> 8))")
        }
    }

    @Test("Tracking a program that writes 10 MB a second costs it less than 2 %")
    func overhead() throws {
        let scratch = try ScratchDirectory()
        let program = try TestPrograms.build("writer", in: scratch)
        // The program reports the CPU time that its writes took, which the machine's other load changes little.
        func measure(tracked: Bool) throws -> Double {
            let result = scratch.file("result")
            let child = try TestPrograms.spawn([program, "64", "2560", "3", result])
            let tracker = DirtyTracker()
            var pacer = RoundPacer()
            let clock = ContinuousClock()
            var last = clock.now
            var status: Int32 = 0
            while waitpid(child, &status, WNOHANG) == 0 {
                usleep(UInt32(pacer.interval * 1e6) / 4)
                let elapsed = (clock.now - last) / .seconds(1)
                guard tracked, elapsed >= pacer.interval else { continue }
                tracker.attach([child])
                let round = tracker.scan()
                last = clock.now
                pacer.finished(dirtyPages: round.first?.dirtyPages ?? 0)
            }
            let file = try #require(fopen(result, "re"))
            defer { fclose(file) }
            var line = [UInt8](repeating: 0, count: 64)
            let count = fread(&line, 1, line.count, file)
            return try #require(Double(String(decoding: line[..<count], as: UTF8.self)))
        }
        let plain = try (0..<2).map { _ in try measure(tracked: false) }.min() ?? 0
        let tracked = try (0..<2).map { _ in try measure(tracked: true) }.min() ?? 0
        let overhead = tracked - plain
        print(
            "10 MB/s of writes: busy \(plain * 100) % untracked, \(tracked * 100) % tracked: \(overhead * 100) % cost"
        )
        #expect(overhead < 0.02)
    }
}
