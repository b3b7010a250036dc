import CLinux
import Glibc
import LinuxSystem
import Testing

@testable import BackingStore

@Suite("Shared memory in rounds", .enabled(if: geteuid() == 0, "needs root"), .serialized)
struct SharedTrackingTests {
    /// The program with shared memory of every kind, and its memory's backing files.
    private final class Subject {
        let scratch: ScratchDirectory
        let child: pid_t
        private(set) var flush: MemoryFlush
        private let commands: Descriptor
        private let answers: Descriptor
        private(set) var report = FlushReport()
        private var epoch: UInt64 = 0

        init() throws {
            scratch = try ScratchDirectory()
            let program = try TestPrograms.build("sharing", in: scratch)
            let (to, from) = (scratch.file("commands"), scratch.file("answers"))
            mkfifo(to, 0o600)
            mkfifo(from, 0o600)
            child = try TestPrograms.spawn([program, to, from])
            commands = try Descriptor(open: to, O_WRONLY)
            answers = try Descriptor(open: from, O_RDONLY)
            flush = MemoryFlush(directory: scratch.path)
        }

        deinit {
            kill(child, SIGKILL)
            var status: Int32 = 0
            waitpid(child, &status, 0)
        }

        func run(_ command: String, _ page: Int) throws {
            let line = Array("\(command) \(page)\n".utf8)
            try syscall("write") { write(commands.raw, line, line.count) }
            var answer: UInt8 = 0
            try #require(read(answers.raw, &answer, 1) == 1)
        }

        /// The program itself; its children are never listed.
        var processes: [FlushedProcess] { [FlushedProcess(hostPid: child, inner: 7)] }

        @discardableResult
        func round(_ kind: MemoryFlush.Kind = .last, _ list: ProcessList? = nil) throws -> FlushReport {
            epoch += 1
            let list = list ?? ProcessList(still: processes)
            report = try flush.round(kind, processes: list, epoch: epoch, replicated: 0) { _ in }
            return report
        }

        /// As after a restore: memfds are open by name, and a new owner goes on with the backing files.
        func goOn() throws {
            try run("reopen", 0)
            try round(.cut)
            flush.tracker.detach()
            let shared = Dictionary(uniqueKeysWithValues: report.shared.map { ($0.number, $0.shape.object) })
            flush = MemoryFlush(directory: scratch.path, stores: flush.stores, shared: shared)
            try round()
        }

        /// Rounds until nothing is new: times have settled, and every mapping is watched.
        func settle() throws {
            for _ in 0..<4 {
                usleep(30_000)
                try round()
            }
            #expect(report.comparedShared == 0)
        }

        /// Compares the objects with their backing files; returns how many pages there are.
        func compare(_ note: String) throws -> Int {
            var pages = 0
            let sightings = SharedSightings.find(report.processes)
            #expect(Set(report.shared.map(\.shape.object)) == Set(sightings.keys))
            for flushed in report.shared {
                let sighting = try #require(sightings[flushed.shape.object])
                let memory = try #require(SharedMemory(sighting))
                let store = try #require(flush.stores[flushed.number])
                let present = try memory.present()
                #expect(present == flushed.present)
                // By content, not by the hashes that decided what to store.
                var held = [UInt8](repeating: 0, count: 4096)
                try memory.read(present) { first, count, data in
                    for i in 0..<count {
                        let found = try store.read(first + UInt64(i), into: &held)
                        let isEqual = found && memcmp(held, data + i * 4096, 4096) == 0
                        #expect(isEqual, "\(note): page \(first + UInt64(i)) of \(memory.name)")
                        pages += 1
                    }
                }
                #expect(store.statistics.pages == UInt64(present.reduce(0) { $0 + $1.count }), "\(note)")
            }
            return pages
        }
    }

    @Test(
        "Whatever way shared memory is written in, the next cut has it",
        arguments: [
            "anonymous", "first", "second", "segment", "write", "write-mapped", "beside", "queued", "punch", "truncate",
            "dropped",
            "removed", "moved", "unmap", "passing", "passing-segment", "child", "grandchild",
        ]
    )
    func everyWay(_ command: String) throws {
        for isRestored in [false, true] { try everyWay(command, isRestored) }
    }

    private func everyWay(_ command: String, _ isRestored: Bool) throws {
        let subject = try Subject()
        try subject.run("anonymous", 1)
        try subject.round()
        if isRestored { try subject.goOn() }
        try subject.settle()
        for page in [3, 10, 11, 63] {
            // Either the round in between finds it, or the cut.
            try subject.run(command, page)
            if page != 10 { try subject.round(page == 11 ? .live : .last) }
            try subject.round(.cut)
            #expect(try subject.compare("\(command) \(page)") > 90)
            usleep(30_000)
            try subject.round()
            if page == 3 { try subject.settle() }
        }
    }

    @Test(
        "Writes through mappings are found page by page; only a memfd whose descriptor is not heard is compared",
        arguments: ["anonymous", "first", "second", "segment", "dropped"],
        [false, true]
    )
    func tracked(_ command: String, _ isRestored: Bool) throws {
        let subject = try Subject()
        try subject.round()
        if isRestored { try subject.goOn() }
        try subject.settle()
        let isSeen =
            isRestored || ModifyWatch.host.hearsCreators || ["anonymous", "segment"].contains(command)
        for page in [0, 1, 40, 63] {
            try subject.run(command, page)
            let report = try subject.round(.cut)
            #expect(report.comparedShared == (isSeen ? 0 : 1))
            #expect(report.shared.count == 4)
            // Its stack and the like are written too.
            #expect(report.flushedPages < 30)
            _ = try subject.compare("\(command) \(page)")
        }
    }

    @Test("Changes through a descriptor that was opened by name are told of")
    func changes() throws {
        let raw = smi_shared_create("watched", 4096, 0)
        let made = Descriptor(owning: raw)
        let named = try Descriptor(open: "/proc/self/fd/\(made.raw)", O_RDWR)
        let mark = try #require(ModifyWatch.host.mark(named.raw))
        for (file, isHeard) in [(named, true), (made, ModifyWatch.host.hearsCreators)] {
            let before = ModifyWatch.host.look()
            #expect(pwrite(file.raw, "x", 1, 0) == 1)
            _ = ModifyWatch.host.look()
            #expect(ModifyWatch.host.isModified(mark, since: before) == isHeard)
        }
    }

    @Test("A child forked after its parent was listed is known of, though it is in no list and writes after the round")
    func forkedMeanwhile() async throws {
        let subject = try Subject()
        try subject.round()
        try subject.settle()
        for page in [3, 40] {
            let list = try await ProcessList {
                let listed = subject.processes
                try subject.run("linger", page)
                return listed
            }
            try subject.round(.last, list)
            try subject.run("release", page)
            // A write that is tracked accounts for the times, which would give the child's away.
            try subject.run("anonymous", 63 - page)
            try subject.round(.cut)
            #expect(try subject.compare("forked meanwhile") > 90)
            try subject.settle()
        }
    }

    @Test("An object that nobody has any more loses its backing file; a new owner goes on with the others'")
    func numbers() throws {
        let subject = try Subject()
        let first = try subject.round(.cut)
        try #require(first.shared.count == 4)
        let shared = Dictionary(uniqueKeysWithValues: first.shared.map { ($0.number, $0.shape.object) })
        let kept = first.shared.dropFirst().map(\.number)
        let next = MemoryFlush(
            directory: subject.scratch.path,
            stores: subject.flush.stores,
            shared: shared.filter { kept.contains($0.key) }
        )
        func processes() -> ProcessList { ProcessList(still: subject.processes) }
        let report = try next.round(.cut, processes: processes(), epoch: 9, replicated: 0) { _ in }
        #expect(report.shared.count == 4)
        #expect(Set(kept).isSubset(of: report.shared.map(\.number)))
        #expect(!report.shared.map(\.number).contains(first.shared[0].number))
        kill(subject.child, SIGKILL)
        // Once it is a zombie, it has no memory; it is reaped with the subject.
        for _ in 0..<5000 where TrackedProcess.identity(of: subject.child)?.isZombie == false { usleep(1000) }
        #expect(try next.round(.last, processes: processes(), epoch: 10, replicated: 0) { _ in }.shared.isEmpty)
        let files = Directories.entries(of: subject.scratch.path).filter { $0.hasSuffix(".shared") }
        #expect(files.isEmpty)
    }

    @Test("A memfd is filled with what a backing file holds, and follows it, holes and size too")
    func fills() throws {
        let scratch = try ScratchDirectory()
        let store = try PageStore.create(at: scratch.file("1.shared"))
        let fills = SharedFills()
        var generator = SeededGenerator(11)
        var model: [UInt64: UInt8] = [:]
        for epoch in UInt64(1)...12 {
            let size = epoch % 3 == 0 ? UInt64(300 * 4096 - 77) : 400 * 4096
            for _ in 0..<40 {
                let page = UInt64.random(in: 0..<300, using: &generator)
                model[page] = UInt8.random(in: 0...9, using: &generator)
                try store.put(page, [UInt8](repeating: model[page] ?? 0, count: 4096))
            }
            let gone = UInt64.random(in: 0..<290, using: &generator)
            for page in gone..<gone + 10 { model[page] = nil }
            try store.drop(gone..<gone + 10)
            try store.commit(epoch: epoch)
            let object = SharedObject(kind: .file, inode: 4711)
            let shapes: [Int32: SharedShape] = [5: SharedShape(object: object, size: size, name: "some")]
            fills.fill(shapes, from: [5: store], epoch: epoch)
            #expect(fills.filled(shapes, epoch: epoch + 1).isEmpty)
            let filled = try #require(fills.filled(shapes, epoch: epoch).first)
            #expect(filled.original.inode == 4711)
            let path = "/proc/self/fd/\(filled.descriptor.raw)"
            #expect(SharedMemory.name(of: path) == "some")
            let found = SharedObject(kind: .file, inode: filled.inode)
            let memory = try #require(SharedMemory(SharedSighting(object: found, path: path)))
            #expect(memory.state.size == size)
            #expect(Array(try memory.present().joined()) == model.keys.sorted())
            try memory.read(memory.present()) { first, count, data in
                for i in 0..<count * 4096 {
                    let byte = data.load(fromByteOffset: i, as: UInt8.self)
                    guard byte != model[first + UInt64(i / 4096)] else { continue }
                    Issue.record("epoch \(epoch), page \(first + UInt64(i / 4096)): \(byte)")
                    break
                }
            }
        }
    }

    @Test("Segments are filled in a namespace of their own, with number and key, and leave it when they are gone")
    func segments() throws {
        let scratch = try ScratchDirectory()
        let store = try PageStore.create(at: scratch.file("1.shared"))
        for page in UInt64(0)..<5 { try store.put(page, [UInt8](repeating: 7, count: 4096)) }
        try store.commit(epoch: 1)
        let object = SharedObject(kind: .segment, inode: 3 * 32768 + 2)
        let shapes: [Int32: SharedShape] = [
            5: SharedShape(object: object, size: 5 * 4096 - 9, name: "/SYSV00534d49")
        ]
        let fills = SharedFills()
        fills.fill(shapes, from: [5: store], epoch: 1)
        let filled = try #require(fills.filled(shapes, epoch: 1).first)
        #expect(filled.original == shapes[5]?.object && filled.size == 5 * 4096 - 9)
        #expect(filled.inode == filled.original.inode)
        var bytes = [UInt8](repeating: 0, count: 5 * 4096)
        #expect(pread(filled.descriptor.raw, &bytes, bytes.count, 0) == 5 * 4096 - 9)
        #expect(bytes.dropLast(9).allSatisfy { $0 == 7 })
        let space = try #require(fills.segmentSpace)
        let key: Int32 = 0x534d49
        let id = Int32(filled.original.inode)
        #expect(smi_segments_add(space.raw, 4, key, 4096) == -EEXIST)
        // An epoch that it was not filled with cannot be restored from it.
        #expect(fills.filled(shapes, epoch: 2).isEmpty)
        fills.fill([:], from: [5: store], epoch: 2)
        #expect(smi_segments_remove(space.raw, id) == -EINVAL)
        // One of this size cannot become one of that.
        fills.fill(shapes, from: [5: store], epoch: 1)
        let larger = shapes.mapValues { SharedShape(object: $0.object, size: 8 * 4096, name: $0.name) }
        #expect(fills.filled(larger, epoch: 1).isEmpty)
        fills.fill(larger, from: [5: store], epoch: 1)
        #expect(fills.filled(larger, epoch: 1).first?.size == 8 * 4096)
        #expect(fills.filled([:], epoch: 1).isEmpty)
    }
}
