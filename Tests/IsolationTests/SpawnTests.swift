import Glibc
import LinuxSystem
import Testing

@Suite struct SpawnTests {
    @Test func `the exit code of a program is returned`() throws {
        let child = try SpawnRequest("/bin/sh", arguments: ["sh", "-c", "exit 7"]).start()
        #expect(try child.wait() == ExitStatus(code: 7))
    }

    @Test func `a program that a signal ends counts as 128 plus the signal`() throws {
        let child = try SpawnRequest("/bin/sh", arguments: ["sh", "-c", "kill -9 $$"]).start()
        #expect(try child.wait() == ExitStatus(code: 137))
    }

    @Test func `a program that does not exist is reported with the call and the path`() {
        #expect(throws: SyscallError("execve", code: ENOENT, subject: "/nonexistent/program")) {
            _ = try SpawnRequest("/nonexistent/program", arguments: ["program"]).start()
        }
    }

    @Test func `only the listed descriptors are open and they have the chosen numbers`() throws {
        let (read, write) = try DescriptorPassing.pipe()
        let (unrelated, alsoUnrelated) = try DescriptorPassing.pipe()
        var request = SpawnRequest("/bin/sh", arguments: ["sh", "-c", "echo /proc/self/fd/* >&9"])
        request.descriptors = [9: write, 3: read]
        let child = try request.start()
        write.close()
        #expect(try child.wait().isSuccess)
        let names = String(decoding: try FileContents.bytes(of: read), as: UTF8.self)
        let expected = [0, 1, 2, 3, 9].map { "/proc/self/fd/\($0)" }
        let open = Set(names.split(whereSeparator: \.isWhitespace).map(String.init))
        // The shell's own glob holds one more descriptor while it reads the directory.
        #expect(open.isSuperset(of: expected))
        #expect(open.count <= expected.count + 1)
        withExtendedLifetime((unrelated, alsoUnrelated)) {}
    }

    @Test func `descriptors may be exchanged`() throws {
        let (readA, writeA) = try DescriptorPassing.pipe()
        let (readB, writeB) = try DescriptorPassing.pipe()
        var request = SpawnRequest(
            "/bin/bash",
            arguments: ["bash", "-c", "echo a >&\(writeB.raw); echo b >&\(writeA.raw)"]
        )
        request.descriptors = [writeB.raw: writeA, writeA.raw: writeB]
        let child = try request.start()
        writeA.close()
        writeB.close()
        #expect(try child.wait().isSuccess)
        #expect(try FileContents.bytes(of: readA) == Array("a\n".utf8))
        #expect(try FileContents.bytes(of: readB) == Array("b\n".utf8))
    }

    @Test func `standard error goes to the log`() throws {
        let log = "/tmp/smirun-spawn-test-\(getpid())-\(UInt32.random(in: 0 ... .max)).log"
        defer { unlink(log) }
        var request = SpawnRequest("/bin/sh", arguments: ["sh", "-c", "echo out; echo error >&2"])
        request.log = log
        #expect(try request.start().wait().isSuccess)
        #expect(try FileContents.string(of: log) == "out\nerror\n")
    }

    @Test func `a process is found again by number and start time and not by another start time`() throws {
        let child = try SpawnRequest("/bin/sleep", arguments: ["sleep", "60"]).start()
        let handle = try #require(try ProcessHandle(pid: child.pid))
        #expect(try ProcessHandle(pid: child.pid, startTime: handle.startTime) != nil)
        #expect(try ProcessHandle(pid: child.pid, startTime: handle.startTime + 1) == nil)
        #expect(try handle.hasEnded(within: 0) == false)
        try handle.signal(SIGKILL)
        #expect(try child.wait().code == 137)
        #expect(try handle.hasEnded(within: 0))
        #expect(try ProcessHandle(pid: child.pid, startTime: handle.startTime) == nil)
    }

    @Test func `descriptors cross a unix socket`() throws {
        let (left, right) = try DescriptorPassing.socketPair(Int32(SOCK_STREAM.rawValue))
        let (read, write) = try DescriptorPassing.pipe()
        try DescriptorPassing.send([1, 2], [write], over: left)
        let received = try DescriptorPassing.receive(from: right)
        #expect(received.bytes == [1, 2])
        let passed = try #require(received.descriptors.first)
        write.close()
        try FileContents.writeAll([7], to: passed)
        passed.close()
        #expect(try FileContents.bytes(of: read) == [7])
    }

    @Test func `the name of a process may hold parentheses`() throws {
        let line = "12 (a) b) S 1 12 12 0 -1 4194560 9 0 0 0 1 2 3 4 20 0 1 0 777 1000 5 18446744073709551615"
        let stat = try #require(ProcessStat(parsing: line))
        #expect(stat.name == "a) b")
        #expect(stat.parent == 1)
        #expect(stat.startTime == 777)
        #expect(stat.residentBytes == 5 * Int(getpagesize()))
    }
}
