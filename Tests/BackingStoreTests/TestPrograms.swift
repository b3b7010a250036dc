import Glibc
import LinuxSystem
import Testing

/// Programs under test, compiled once per run, and the processes made of them.
enum TestPrograms {
    /// The path of a compiled program of Programs/.
    static func build(_ name: String, in scratch: ScratchDirectory) throws -> String {
        let source = #filePath.split(separator: "/").dropLast().joined(separator: "/")
        let output = scratch.file(name)
        let status = try run([
            "/usr/bin/cc", "-O1", "-pthread", "-Wall", "-o", output, "/\(source)/Programs/\(name).c",
        ])
        try #require(status == 0, "the C compiler failed on \(name).c")
        return output
    }

    /// Keeps files that whoever started the tests has left open from the programs: CRIU would have to dump them.
    private static let withholdInherited: Void = {
        for name in Directories.entries(of: "/proc/self/fd") {
            if let number = Int32(name), number > 2 { _ = fcntl(number, F_SETFD, FD_CLOEXEC) }
        }
    }()

    /// Starts a program; the caller ends and reaps it.
    static func spawn(_ arguments: [String], newSession: Bool = false) throws -> pid_t {
        var pid: pid_t = 0
        let cArguments = arguments.map { strdup($0) } + [nil]
        defer { for argument in cArguments { free(argument) } }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        // A test's thread may have signals blocked. 0x80: POSIX_SPAWN_SETSID, which the module map hides.
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(
            &attributes,
            Int16(POSIX_SPAWN_SETSIGMASK) | (newSession ? 0x80 : Int16(POSIX_SPAWN_SETPGROUP))
        )
        defer { posix_spawnattr_destroy(&attributes) }
        _ = withholdInherited
        let result = posix_spawn(&pid, arguments[0], nil, &attributes, cArguments, environ)
        guard result == 0 else { throw SyscallError("posix_spawn", code: result, subject: arguments[0]) }
        return pid
    }

    /// Runs a program to its end.
    static func run(_ arguments: [String]) throws -> Int32 {
        let pid = try spawn(arguments)
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        return status
    }
}

/// A cgroup of the v2 hierarchy for processes under test: frozen, listed and killed as a whole.
final class TestCgroup {
    let path: String

    init() throws {
        let root =
            access("/sys/fs/cgroup/unified/cgroup.procs", F_OK) == 0 ? "/sys/fs/cgroup/unified" : "/sys/fs/cgroup"
        path = "\(root)/smirun-test-backing-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        guard mkdir(path, 0o755) == 0 else { throw SyscallError("mkdir", subject: path) }
    }

    /// Starts a program inside.
    func spawn(_ arguments: [String]) throws -> pid_t {
        try TestPrograms.spawn(["/bin/sh", "-c", "echo $$ > \(path)/cgroup.procs; exec \"$@\"", "sh"] + arguments)
    }

    var pids: [pid_t] {
        read("cgroup.procs").split(separator: "\n").compactMap { pid_t($0) }
    }

    func freeze(_ frozen: Bool) {
        write("cgroup.freeze", frozen ? "1" : "0")
        while !read("cgroup.events").contains(frozen ? "frozen 1" : "frozen 0") { usleep(100) }
    }

    private func read(_ file: String) -> String {
        guard let handle = fopen("\(path)/\(file)", "re") else { return "" }
        defer { fclose(handle) }
        var bytes = [UInt8](repeating: 0, count: 65536)
        let count = fread(&bytes, 1, bytes.count, handle)
        return String(decoding: bytes[..<count], as: UTF8.self)
    }

    private func write(_ file: String, _ text: String) {
        guard let handle = fopen("\(path)/\(file)", "we") else { return }
        fputs(text, handle)
        fclose(handle)
    }

    /// Kills everything inside and removes the cgroup; reaps the given child.
    func end(reaping child: pid_t) {
        write("cgroup.freeze", "0")
        write("cgroup.kill", "1")
        var status: Int32 = 0
        waitpid(child, &status, 0)
        for _ in 0..<2000 where rmdir(path) != 0 { usleep(1000) }
    }
}

/// What a stopped process's private memory holds, read through /proc/PID/mem.
struct MemoryImage {
    let memory: Descriptor

    init(pid: pid_t) throws {
        memory = try Descriptor(open: "/proc/\(pid)/mem", O_RDONLY)
    }

    func page(_ number: UInt64, into buffer: UnsafeMutableRawPointer) -> Bool {
        pread(memory.raw, buffer, 4096, off_t(number * 4096)) == 4096
    }
}
