import Glibc
import LinuxSystem
import Testing

@testable import BackingStore

/// CRIU from its private prefix, started through the prefix's own loader.
enum TestCriu {
    static let prefix = getenv("SMIRUN_CRIU_PREFIX").map { String(cString: $0) } ?? "/opt/smirun/criu"
    static var libraries: String { prefix + "/usr/lib/x86_64-linux-gnu" }
    static var isInstalled: Bool { access(prefix + "/usr/sbin/criu", X_OK) == 0 }

    static func arguments(_ arguments: [String], preload: String? = nil) -> [String] {
        [libraries + "/ld-linux-x86-64.so.2", "--library-path", libraries] + (preload.map { ["--preload", $0] } ?? [])
            + [prefix + "/usr/sbin/criu"] + arguments
    }

    /// The preload library, built as the product's is.
    static func buildPreload(_ scratch: ScratchDirectory) throws -> String {
        let root = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let sources = root + "/Sources/CCriuPreload"
        let library = scratch.file("carry.so")
        let files = Directories.entries(of: sources).filter { $0.hasSuffix(".c") }.map { sources + "/" + $0 }
        let status = try TestPrograms.run(
            ["/usr/bin/cc", "-O1", "-std=gnu17", "-fPIC", "-fvisibility=hidden", "-shared", "-o", library] + files
        )
        try #require(status == 0)
        return library
    }
}

@Suite(
    "Page-in under CRIU",
    .enabled(if: geteuid() == 0 && TestCriu.isInstalled, "needs root and CRIU's prefix"),
    .serialized
)
struct CriuPageInTests {
    private func text(_ path: String) -> String {
        guard let file = fopen(path, "re") else { return "" }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 65536)
        let count = fread(&bytes, 1, bytes.count, file)
        return String(decoding: bytes[..<count], as: UTF8.self)
    }

    /// Asks the program to check its memory; nil if it does not answer.
    private func check(_ pid: pid_t, _ report: String) -> String? {
        unlink(report)
        kill(pid, SIGUSR1)
        return answer(report)
    }

    private func answer(_ report: String) -> String? {
        for _ in 0..<5000 {
            let line = text(report)
            if line.hasSuffix("\n") { return String(line.dropLast()) }
            usleep(1000)
        }
        return nil
    }

    private func size(of directory: String) -> Int {
        guard let stream = opendir(directory) else { return 0 }
        defer { closedir(stream) }
        var total = 0
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            var status = stat()
            if lstat("\(directory)/\(name)", &status) == 0, name.hasSuffix(".img") { total += Int(status.st_size) }
        }
        return total
    }

    /// Takes the mappings with these pages off the list of what a dump leaves out: nobody adds them to the images here.
    private func keepDumping(_ pages: [Range<UInt64>], list: String) throws {
        let left = text(list).split(separator: "\n").filter { line in
            let bounds = line.split(separator: "-").compactMap { UInt64($0, radix: 16) }
            return !pages.contains { $0.overlaps(bounds[0] / 4096..<bounds[1] / 4096) }
        }
        try FileContents.replace(list, with: Array(left.map { $0 + "\n" }.joined().utf8))
    }

    @Test(
        "A process restored with --lazy-pages gets its memory from its backing file, be it in CRIU's images or not",
        arguments: [false, true]
    )
    func restore(carried: Bool) throws {
        let scratch = try ScratchDirectory()
        let program = try TestPrograms.build("resident", in: scratch)
        let report = scratch.file("report")
        let images = scratch.file("images")
        mkdir(images, 0o700)
        defer { _ = try? TestPrograms.run(["/bin/rm", "-rf", images]) }
        let log = PageServerTests.Log()
        let launched = try TestPrograms.spawn(
            ["/bin/sh", "-c", "exec \"$@\" </dev/null >/dev/null 2>&1", "sh", program, "16", report],
            newSession: true
        )
        defer { kill(launched, SIGKILL) }
        var status: Int32 = 0
        #expect(answer(report) == "0 \(UInt64(3 * 512) * 2_654_435_761 + 1)")
        let tracker = DirtyTracker()
        tracker.attach([launched])
        let store = try PageStore.create(at: scratch.file("a.pages"))
        let round = try #require(tracker.scan(presence: true).first)
        _ = try ProcessMemoryReader.read(round.dirty, of: launched) { try store.put($0, $1) }
        let preload = carried ? try TestCriu.buildPreload(scratch) : nil
        if carried {
            try CarriedMemory.copySmaps(of: launched, to: images)
            let ofFiles = try CarriedMemory.writeSkips(round, to: images)
            try keepDumping(ofFiles, list: "\(images)/\(launched).skip")
            setenv("SMIRUN_CRIU_CARRY", images, 1)
        }
        defer { unsetenv("SMIRUN_CRIU_CARRY") }
        tracker.detach()
        // One page differs in the backing file, to tell it from CRIU's images.
        let marked: UInt64 = 0x2000_0000_0000 / 4096 + 3
        var page = try #require(try store.read(marked))
        withUnsafeBytes(of: UInt64(4711)) { page.replaceSubrange(0..<8, with: $0) }
        try store.put(marked, page)
        try store.commit(epoch: 1)
        let options = ["-D", images, "--manage-cgroups=ignore", "-v1"]
        let dumped = try TestPrograms.run(
            TestCriu.arguments(["dump", "-t", "\(launched)", "-o", "dump.log"] + options, preload: preload)
        )
        try #require(dumped == 0, "dump: \(text(images + "/dump.log"))")
        waitpid(launched, &status, 0)
        print("images of a process of 16 MB, \(carried ? "carried" : "whole"): \(size(of: images)) bytes")
        #expect(carried ? size(of: images) < 1 << 20 : size(of: images) > 16 << 20)
        let server = try PageServer(
            sources: { $0 == launched ? PageSource(store: store) : nil },
            onEvent: log.note
        )
        try server.listen(at: images + "/lazy-pages.socket")
        let restored = try TestPrograms.run(
            TestCriu.arguments(["restore", "-d", "--lazy-pages", "-o", "restore.log"] + options)
        )
        try #require(restored == 0, "restore: \(text(images + "/restore.log"))")
        #expect(log.wait(for: .restored))
        #expect(log.wait(for: .complete(pid: launched)))
        let answer = check(launched, report)
        let state = text("/proc/\(launched)/stat") + text("/proc/\(launched)/syscall") + text("/proc/\(launched)/wchan")
        #expect(answer == "0 4711", "\(log.all); \(state)")
        server.finish(launched)
        #expect(check(launched, report) == "0 4711")
        server.stop()
    }

    @Test("Shared memory is left out of CRIU's images, and restored as the memfds that were filled before")
    func shared() throws {
        let scratch = try ScratchDirectory()
        let program = try TestPrograms.build("sharing", in: scratch)
        let images = scratch.file("images")
        mkdir(images, 0o700)
        defer { _ = try? TestPrograms.run(["/bin/rm", "-rf", images]) }
        let launched = try TestPrograms.spawn(
            [
                "/bin/sh", "-c", "exec \"$@\" </dev/null >/dev/null 2>&1", "sh", program, "-",
                scratch.file("ready"),
            ],
            newSession: true
        )
        defer { kill(launched, SIGKILL) }
        for _ in 0..<5000 where access(scratch.file("ready"), F_OK) != 0 { usleep(1000) }
        let flush = MemoryFlush(directory: scratch.path)
        let processes = ProcessList(still: [FlushedProcess(hostPid: launched, inner: launched)])
        let report = try flush.round(.cut, processes: processes, epoch: 1, replicated: 0) { _ in }
        flush.tracker.detach()
        flush.rest()
        try #require(report.shared.count == 3)
        let preload = try TestCriu.buildPreload(scratch)
        try CarriedMemory.writeShared(report.shared, to: images)
        setenv("SMIRUN_CRIU_CARRY", images, 1)
        let options = ["-D", images, "--manage-cgroups=ignore", "-v1"]
        let dumped = try TestPrograms.run(
            TestCriu.arguments(["dump", "-t", "\(launched)", "-o", "dump.log"] + options, preload: preload)
        )
        unsetenv("SMIRUN_CRIU_CARRY")
        try #require(dumped == 0, "dump: \(text(images + "/dump.log"))")
        var status: Int32 = 0
        waitpid(launched, &status, 0)
        // Each object has its list of pages; there is none in it.
        for flushed in report.shared {
            var list = stat()
            #expect(stat("\(images)/pagemap-shmem-\(flushed.shape.object.inode).img", &list) == 0)
            #expect(list.st_size < 64)
        }
        let fills = SharedFills()
        let shapes = Dictionary(uniqueKeysWithValues: report.shared.map { ($0.number, $0.shape) })
        fills.fill(shapes, from: flush.stores, epoch: 1)
        let filled = fills.filled(shapes, epoch: 1)
        try #require(filled.count == 3)
        let lines = filled.map { "\($0.original.inode) \($0.inode) \(getpid()) \($0.descriptor.raw)\n" }
        try FileContents.replace(images + "/filled", with: Array(lines.joined().utf8))
        let restored = try TestPrograms.run(
            TestCriu.arguments(["restore", "-d", "-o", "restore.log"] + options, preload: preload)
        )
        try #require(restored == 0, "restore: \(text(images + "/restore.log"))")
        let tracker = DirtyTracker()
        tracker.attach([launched])
        let sightings = SharedSightings.find(tracker.scan())
        #expect(Set(sightings.keys.map(\.inode)) == Set(filled.map(\.inode)))
        for filled in filled {
            let object = SharedObject(kind: .file, inode: filled.inode)
            let memory = try #require(sightings[object].flatMap { SharedMemory($0) })
            let store = try #require(flush.stores[filled.number])
            #expect(memory.name == shapes[filled.number]?.name)
            #expect(try memory.differing(memory.present(), from: store).isEmpty)
            #expect(try memory.present().reduce(0) { $0 + $1.count } == Int(store.statistics.pages))
        }
    }
}
