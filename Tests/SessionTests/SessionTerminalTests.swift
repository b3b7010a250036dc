import Glibc
import LinuxSystem
import Testing

@testable import Isolation

extension SessionProcessTests {
    @Suite struct SessionTerminalTests {
        private func open(_ sandbox: InitProcess, _ start: SessionStart = .terminal) async throws -> LocalSession {
            let session = try LocalSession(
                start,
                isRaw: true,
                window: WindowSize(rows: 31, columns: 97),
                dial: sandbox.dialler
            )
            if case .terminal = start { #expect(await eventually { session.text.contains("ready> ") }) }
            return session
        }

        @Test func givesAShellATerminalOfTheRightSizeThatItControls() async throws {
            let sandbox = try InitProcess()
            let session = try await open(sandbox)
            session.send("stty size; tty; echo $TERM; ps -o tpgid= -p $$ | tr -d ' '; echo pid $$\n")
            #expect(await eventually { session.text.contains("pid ") && session.text.hasSuffix("ready> ") })
            #expect(session.text.contains("31 97\r\n"))
            #expect(session.text.contains("/dev/pts/"))
            #expect(session.text.contains("dumb\r\n"))
            session.send("exit 6\n")
            #expect(try await session.result().outcome == .exited(.status(6)))
            try sandbox.stop()
        }

        @Test func ctrlCInterruptsTheForegroundOnly() async throws {
            let sandbox = try InitProcess()
            let session = try await open(sandbox)
            session.send("sleep 100\n")
            try await Task.sleep(for: .milliseconds(200))
            session.send("\u{3}")
            session.send("echo status $?\n")
            #expect(await eventually { session.text.contains("status 130\r\n") })
            session.send("exit\n")
            #expect(try await session.result().outcome == .exited(.status(0)))
            try sandbox.stop()
        }

        @Test func jobControlWorks() async throws {
            let sandbox = try InitProcess()
            let session = try await open(sandbox)
            session.send("sleep 100\n")
            try await Task.sleep(for: .milliseconds(200))
            session.send("\u{1a}")
            #expect(await eventually { session.text.contains("Stopped") })
            session.send("bg; jobs; kill %1; fg\n")
            #expect(await eventually { session.text.contains("Running") })
            session.send("exit 0\n")
            #expect(try await session.result().outcome == .exited(.status(0)))
            try sandbox.stop()
        }

        @Test func goesOnWithoutTheClientAfterDetaching() async throws {
            let sandbox = try InitProcess()
            let first = try await open(sandbox)
            first.send("variable=kept\n")
            #expect(await eventually { first.text.hasSuffix("kept\r\nready> ") })
            first.send([0x10, 0x11])
            #expect(try await first.result().outcome == .detached(session: 1))
            let listed = try SessionCommands.list(dial: sandbox.dialler)
            #expect(listed.map(\.isAttached) == [false])
            let second = try await open(sandbox, .attach(session: 1))
            second.send("echo got $variable\n")
            #expect(await eventually { second.text.contains("got kept") })
            second.send("exit\n")
            #expect(try await second.result().outcome == .exited(.status(0)))
            #expect(try SessionCommands.list(dial: sandbox.dialler).isEmpty)
            try sandbox.stop()
        }

        @Test func dropsTheOldestOutputOfADetachedTerminalAndSaysHowMuch() async throws {
            let sandbox = try InitProcess()
            let first = try await open(sandbox)
            // Begins when the first client has left; 3.4 MB against the ring's 1 MB.
            let (go, done) = (sandbox.directory + "/go", sandbox.directory + "/done")
            first.send("while [ ! -e \(go) ]; do sleep 0.05; done; seq 500000; echo finis; touch \(done)\n")
            first.send([0x10, 0x11])
            #expect(try await first.result().outcome == .detached(session: 1))
            close(Glibc.open(go, O_CREAT | O_WRONLY, 0o600))
            #expect(await eventually(within: .seconds(60)) { access(done, F_OK) == 0 })
            let second = try LocalSession(.attach(session: 1), isRaw: true, dial: sandbox.dialler)
            #expect(await eventually { second.text.contains("finis\r\nready> ") })
            let kept = second.text
            second.send("exit\n")
            let dropped = Int(try await second.result().dropped)
            // What was kept is the unbroken end of what was written.
            let whole = (1...500_000).map { "\($0)\r\n" }.joined() + "finis\r\nready> "
            let isEnd = whole.hasSuffix(kept)
            #expect(isEnd)
            #expect(kept.utf8.count >= 1_000_000)
            #expect(kept.utf8.count <= 1 << 20)
            let echo = first.text.utf8.count
            #expect(dropped + kept.utf8.count + echo >= whole.utf8.count)
            #expect(dropped > 2_000_000)
            try sandbox.stop()
        }

        @Test func programGetsWhatWasTypedRightBeforeLeaving() async throws {
            let sandbox = try InitProcess()
            let link = try sandbox.dial()
            let mark = sandbox.directory + "/mark"
            let line = Array("touch \(mark)\n".utf8)
            // In one piece, so that smi-init reads the line and the leaving together.
            let bytes =
                SessionStart.terminal.frame(key: SessionKey(), window: nil)
                + FrameHeader.frame(.data, payload: line) + FrameHeader.frame(.detach)
            #expect(bytes.withUnsafeBytes { StreamSocket.send(link.stream, $0) } == .moved(bytes.count))
            #expect(await eventually { access(mark, F_OK) == 0 })
            try sandbox.stop()
        }

        @Test func losesNothingWhileTheClientIsOnlyCutOff() async throws {
            let sandbox = try InitProcess()
            let gate = Gate()
            let session = try LocalSession(.terminal, isRaw: true, dial: gate.dialler(sandbox))
            #expect(await eventually { session.text.hasSuffix("ready> ") })
            session.send("stty -echo; seq 300000; echo finis\n")
            for _ in 0..<20 {
                try await Task.sleep(for: .milliseconds(10))
                gate.close()
                gate.open()
            }
            #expect(await eventually { session.text.hasSuffix("finis\r\nready> ") })
            let isWhole = session.text.contains((1...300_000).map { "\($0)\r\n" }.joined() + "finis\r\n")
            #expect(isWhole)
            session.send("exit\n")
            let result = try await session.result()
            #expect(result.outcome == .exited(.status(0)))
            #expect(result.dropped == 0)
            try sandbox.stop()
        }

        @Test func typingSurvivesBrokenConnections() async throws {
            let sandbox = try InitProcess()
            let relay = FaultyRelay(seed: 77, longest: 600) { try InitConnection.connect(sandbox.endpoint) }
            let session = try LocalSession(.terminal, isRaw: true, dial: relay.dialler)
            #expect(await eventually { session.text.hasSuffix("ready> ") })
            for number in 1...100 { session.send("echo n$((\(number)))\n") }
            #expect(await eventually(within: .seconds(30)) { session.text.contains("\r\nn100\r\n") })
            for number in 1...100 { #expect(session.text.components(of: "\nn\(number)\r\n") == 1) }
            session.send("exit\n")
            #expect(try await session.result().outcome == .exited(.status(0)))
            #expect(relay.connections > 5)
            try sandbox.stop()
        }

        @Test func tellsTheEarlierClientThatItsSessionWasTaken() async throws {
            let sandbox = try InitProcess()
            let first = try await open(sandbox)
            let second = try await open(sandbox, .attach(session: 1))
            #expect(try await first.result().outcome == .taken(session: 1))
            second.send("echo mine\n")
            #expect(await eventually { second.text.contains("mine\r\n") })
            second.send("exit\n")
            #expect(try await second.result().outcome == .exited(.status(0)))
            try sandbox.stop()
        }

        @Test func tellsAClientThatWasAwayThatItsSessionWasTaken() async throws {
            let sandbox = try InitProcess()
            let gate = Gate()
            let first = try LocalSession(.terminal, isRaw: true, dial: gate.dialler(sandbox))
            #expect(await eventually { first.text.hasSuffix("ready> ") })
            gate.close()
            let second = try await open(sandbox, .attach(session: 1))
            second.send("echo mine\n")
            #expect(await eventually { second.text.contains("mine\r\n") })
            gate.open()
            #expect(try await first.result().outcome == .taken(session: 1))
            second.send("exit\n")
            _ = try await second.result()
            try sandbox.stop()
        }

        @Test func refusesToAttachToWhatHasNoTerminalOrDoesNotExist() async throws {
            let sandbox = try InitProcess()
            let running = try LocalSession(.shell("read line"), dial: sandbox.dialler)
            #expect(await eventually { (try? SessionCommands.list(dial: sandbox.dialler).count) == 1 })
            let piped = try LocalSession(.attach(session: 1), dial: sandbox.dialler)
            guard case .refused(.noTerminal, _) = try await piped.result().outcome else {
                Issue.record("attached to an exec")
                return
            }
            let unknown = try LocalSession(.attach(session: 99), dial: sandbox.dialler)
            guard case .refused(.noSession, _) = try await unknown.result().outcome else {
                Issue.record("attached to nothing")
                return
            }
            running.endInput()
            _ = try await running.result()
            try sandbox.stop()
        }

        @Test func sendsEndOfFileWhenInputEnds() async throws {
            let sandbox = try InitProcess()
            let session = try LocalSession(
                .terminal(argv: ["cat"], environment: [], workingDirectory: ""),
                dial: sandbox.dialler
            )
            session.send("line\n")
            session.endInput()
            #expect(try await session.result().outcome == .exited(.status(0)))
            #expect(session.text == "line\r\nline\r\n")
            try sandbox.stop()
        }

        @Test func passesALoneCtrlPOnBeforeLong() async throws {
            let sandbox = try InitProcess()
            let session = try LocalSession(
                .terminal(
                    argv: ["sh", "-c", "stty raw -echo; echo go; head -c 1 | od -An -tx1"],
                    environment: [],
                    workingDirectory: ""
                ),
                isRaw: true,
                dial: sandbox.dialler
            )
            #expect(await eventually { session.text.contains("go") })
            session.send([0x10])
            #expect(await eventually { session.text.contains("10") })
            #expect(try await session.result().outcome == .exited(.status(0)))
            try sandbox.stop()
        }
    }
}

extension String {
    /// How often a text occurs.
    fileprivate func components(of text: String) -> Int {
        var count = 0
        var rest = self[...]
        while let found = rest.utf8.firstRange(of: text.utf8) {
            count += 1
            rest = rest[found.upperBound...]
        }
        return count
    }
}

extension Collection where Element == UInt8 {
    /// Where these bytes occur first.
    fileprivate func firstRange(of other: some Collection<UInt8>) -> Range<Index>? {
        var start = startIndex
        while start != endIndex {
            if self[start...].starts(with: other) { return start..<index(start, offsetBy: other.count) }
            start = index(after: start)
        }
        return nil
    }
}
