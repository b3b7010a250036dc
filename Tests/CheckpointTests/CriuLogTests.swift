import Testing

@testable import Isolation

@Suite("CRIU's log")
struct CriuLogTests {
    private static let always = """
        Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted

        """

    @Test(
        "names the process and the reason",
        arguments: [
            (
                "Error (criu/files-ext.c:94): Can't dump file 4 of that type [600] (anon anon_inode:[userfaultfd])",
                "holds [userfaultfd] (descriptor 4)"
            ),
            (
                "Error (criu/sk-inet.c:137): inet: Unsupported proto 262 for socket 2bd41",
                "holds a socket of protocol 262, which cannot be moved"
            ),
            (
                "Error (criu/sockets.c:767): sockets: BUG! Unknown socket collected (family 40)",
                "holds a socket of address family 40, which cannot be moved"
            ),
            (
                "Error (criu/files-reg.c:1790): Can't lookup mount=102 for fd=4 path=/q",
                "holds /q (descriptor 4), a file outside the sandbox's root"
            ),
            (
                "Error (criu/files-reg.c:1031): Can't dump ghost file /tmp/big of 73400320 size, increase limit",
                "holds the deleted file /tmp/big of 73400320 bytes open; at most 67108864 can move"
            ),
            ("Error (criu/tun.c:306): tun: Net namespace is required to dump tun link", "holds a TUN device"),
            ("Error (criu/new.c:1): something new", "CRIU says: something new"),
        ]
    )
    func reasons(line: String, reason: String) {
        let log = CriuLog(
            text: Self.always + line + "\nError (criu/cr-dump.c:1545): Dump files (pid: 11174) failed with -1\n"
        )
        #expect(log.reason == reason)
        #expect(log.culprit == 11174)
        #expect(!log.connectionPending)
    }

    @Test("names traced processes and nested namespaces")
    func others() {
        let traced = CriuLog(
            text: "Error (compel/src/lib/infect.c:262): Unseizable non-zombie 11271 found, state S, err -1/10"
        )
        #expect(traced.culprit == 11271)
        #expect(traced.reason == "is being traced, as by strace or a debugger")
        let nested = CriuLog(text: "Error (criu/namespaces.c:460): Can't dump nested pid namespace for 11359")
        #expect(nested.culprit == 11359)
        #expect(nested.reason == "has a pid namespace of its own")
        let time = CriuLog(text: "Error (criu/namespaces.c:460): Can't dump nested time_for_children namespace for 12")
        #expect(time.reason == "has a time namespace of its own")
    }

    @Test("tells a connection that waits to be accepted, and says nothing when it is empty")
    func pending() {
        #expect(CriuLog(text: "Error (criu/sk-inet.c:185): inet: In-flight connection (l) for 2c228").connectionPending)
        #expect(CriuLog(text: Self.always).reason == "CRIU gave no reason")
        #expect(CriuLog(text: Self.always).culprit == nil)
        #expect(CriuLog(path: "/nonexistent").lines.isEmpty)
    }
}

@Suite("CRIU's messages")
struct CriuMessageTests {
    @Test("are read as CRIU sends them, and anything else is refused")
    func responses() {
        let notification: [UInt8] = [8, 6, 16, 1, 42, 17, 10, 15] + Array("query-ext-files".utf8)
        #expect(CriuResponse(notification) == .notification("query-ext-files", pid: nil))
        #expect(CriuResponse([8, 2, 16, 1, 34, 3, 8, 189, 25]) == .result(success: true, pid: 3261))
        #expect(CriuResponse([8, 1, 16, 0, 26, 2, 8, 0]) == .result(success: false, pid: nil))
        for bad: [UInt8] in [[], [8], [8, 6], [255, 255], [10, 200, 1], [8, 6, 42, 1, 0], [11, 0]] {
            #expect(CriuResponse(bad) == nil)
        }
    }

    @Test("survive every random packet", arguments: 0..<200)
    func noise(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let bytes = (0..<Int.random(in: 0...64, using: &generator)).map { _ in
            UInt8(truncatingIfNeeded: generator.next() >> 11)
        }
        _ = CriuResponse(bytes)
    }

    @Test("carry versions that can be compared")
    func versions() throws {
        let found = try #require(CriuInstallation.Version(output: "Version: 4.2.1\nGitID: v4.2\n"))
        #expect(found.description == "4.2.1" && found >= .minimum)
        let old = try #require(CriuInstallation.Version(output: "Version: 3.17.1\n"))
        #expect(old < .minimum)
        #expect(CriuInstallation.Version(output: "Version: 4.10-rc1").map { $0 > .minimum } == true)
        #expect(CriuInstallation.Version(output: "no such thing") == nil)
    }
}
