import Glibc
import LinuxSystem
import Testing

@testable import Isolation

extension SessionProcessTests {
    @Suite struct InitProgramTests {
        @Test func reportsTheProgramItStarted() async throws {
            let sandbox = try InitProcess(["sh", "-c", "sleep 0.3; exit 12"])
            #expect(sandbox.status.pid > 0)
            #expect(try SessionCommands.status(dial: sandbox.dialler).program == .running(pid: sandbox.status.pid))
            #expect(
                await eventually { (try? SessionCommands.status(dial: sandbox.dialler).program) == .exited(status: 12) }
            )
            #expect(try sandbox.stop() == 12)
        }

        @Test func reportsWhyAProgramCouldNotBeStarted() throws {
            for (program, code, exit) in [
                ("no-such-program", ENOENT, 127), ("/etc", EACCES, 126), ("/etc/passwd", EACCES, 126),
            ]
                as [(String, Int32, Int32)]
            {
                let failure = #expect(throws: InitProcess.StartFailure.self) { try InitProcess([program]) }
                #expect(failure?.status?.stage == .exec)
                #expect(failure?.status?.code == code)
                #expect(failure?.exit == exit)
            }
        }

        @Test func runsWithoutAProgram() throws {
            let sandbox = try InitProcess()
            #expect(sandbox.status.pid == 0)
            #expect(try SessionCommands.status(dial: sandbox.dialler).program == .none)
            #expect(try sandbox.stop() == 0)
        }

        @Test(arguments: [0, 10, 47, 60, 200])
        func refusesAConfigurationThatIsCutShort(length: Int) throws {
            let whole = InitConfiguration(
                secret: [UInt8](repeating: 1, count: 32),
                program: ["true"],
                environment: ["A=" + String(repeating: "x", count: 200)],
                port: 0,
                log: ""
            ).encoded()
            let (child, record) = try InitProcess.start(Array(whole.prefix(length)))
            #expect(InitStatus(decoding: record)?.stage == .configuration)
            #expect(try child.wait().code == 1)
        }

        @Test func refusesConfigurationsThatLie() throws {
            let whole = InitConfiguration(
                secret: [UInt8](repeating: 1, count: 32),
                program: ["true"],
                environment: ["A=b"],
                port: 0,
                log: ""
            ).encoded()
            for index in whole.indices where !(16..<48).contains(index) && !(6..<12).contains(index) {
                var bent = whole
                bent[index] = 0xff
                let (child, record) = try InitProcess.start(bent)
                let status = InitStatus(decoding: record)
                // A changed letter of a string may still be a configuration; a changed count or length may not.
                if status?.stage == .running { try child.signal(SIGTERM) }
                #expect(status != nil)
                _ = try child.wait()
            }
        }

        @Test func programHasNothingOpenButItsStandardStreams() async throws {
            let sandbox = try InitProcess(["sh", "-c", "ls -l /proc/self/fd; read line; echo read $?"])
            #expect(await eventually { readText(sandbox.logPath).contains("read 1") })
            let text = readText(sandbox.logPath)
            #expect(text.contains("0 -> /dev/null"))
            #expect(text.split(separator: "\n").filter { $0.contains(" -> ") }.count == 4)
            try sandbox.stop()
        }

        @Test func reapsOrphans() async throws {
            let sandbox = try InitProcess(["sh", "-c", "for i in 1 2 3 4 5; do (sleep 0.1 & ) ; done; sleep 100"])
            try await Task.sleep(for: .milliseconds(600))
            let children = readText("/proc/\(sandbox.child.pid)/task/\(sandbox.child.pid)/children")
            #expect(children.split(separator: " ").count == 1)
            try sandbox.stop()
        }

        @Test func logHoldsWhatTheProgramWrites() async throws {
            let sandbox = try InitProcess(["sh", "-c", "echo out; echo err >&2; sleep 100"])
            #expect(await eventually { readText(sandbox.logPath) == "out\nerr\n" })
            let (text, _) = try await logs(sandbox, follow: false)
            #expect(text == "out\nerr\n")
            try sandbox.stop()
        }

        @Test func logIsRotatedAndServedAcrossTheRotation() async throws {
            let sandbox = try InitProcess(["sh", "-c", "seq 20000; sleep 100"], logLimit: 50_000)
            let whole = (1...20_000).map { "\($0)\n" }.joined()
            #expect(
                await eventually {
                    (try? SessionCommands.status(dial: sandbox.dialler).logBytes) == UInt64(whole.utf8.count)
                }
            )
            let current = readText(sandbox.logPath)
            let previous = readText(sandbox.logPath + ".1")
            let isEnd = whole.hasSuffix(previous + current)
            #expect(isEnd)
            #expect(current.utf8.count <= 50_000 + 65_536)
            #expect(previous.utf8.count >= 50_000)
            let (text, _) = try await logs(sandbox, follow: false)
            let isSame = text == previous + current
            #expect(isSame)
            try sandbox.stop()
        }

        @Test func logIsFollowedOverBrokenConnections() async throws {
            let sandbox = try InitProcess([
                "sh", "-c", "for i in $(seq 400); do echo line $i; sleep 0.005; done; sleep 100",
            ])
            let relay = FaultyRelay(seed: 3, longest: 700) { try InitConnection.connect(sandbox.endpoint) }
            let pipe = try DescriptorPassing.pipe()
            let ended = Task {
                try await offload {
                    try SessionCommands.logs(follow: true, to: pipe.write.raw, dial: relay.dialler)
                }
            }
            let text = try await offload {
                var text = ""
                var buffer = [UInt8](repeating: 0, count: 4096)
                while !text.hasSuffix("line 400\n"), case let count = read(pipe.read.raw, &buffer, buffer.count),
                    count > 0
                {
                    text += String(decoding: buffer[..<count], as: UTF8.self)
                }
                return text
            }
            #expect(text == (1...400).map { "line \($0)\n" }.joined())
            #expect(relay.connections > 3)
            // Nobody reads any more: following ends with the next line or the loss of the connection.
            pipe.read.close()
            ended.cancel()
            try sandbox.stop()
        }

        private func logs(_ sandbox: InitProcess, follow: Bool) async throws -> (String, Void) {
            let pipe = try DescriptorPassing.pipe()
            async let text = offload { String(decoding: readToEnd(pipe.read.raw), as: UTF8.self) }
            try await offload { try SessionCommands.logs(follow: follow, to: pipe.write.raw, dial: sandbox.dialler) }
            pipe.write.close()
            return (try await text, ())
        }

        @Test func aProgramKeepsRunningWhenItsLogCannotBeWritten() async throws {
            let sandbox = try InitProcess(["sh", "-c", "sleep 0.2; seq 100000; sleep 100"])
            // A directory in the file's place is what a full or broken disk looks like at the next rotation.
            #expect(await eventually { (try? SessionCommands.status(dial: sandbox.dialler).logBytes) == 588_895 })
            try sandbox.stop()
        }

        @Test func passesSIGTERMOnAndEndsWithTheProgramsStatus() throws {
            let sandbox = try InitProcess(["sh", "-c", "trap 'exit 33' TERM; echo up; while :; do sleep 0.05; done"])
            while !readText(sandbox.logPath).contains("up") { usleep(5000) }
            #expect(try sandbox.stop() == 33)
        }

        @Test func passesSIGINTOn() throws {
            let sandbox = try InitProcess(["sh", "-c", "trap 'exit 44' INT; echo up; while :; do sleep 0.05; done"])
            while !readText(sandbox.logPath).contains("up") { usleep(5000) }
            try sandbox.child.signal(SIGINT)
            #expect(try sandbox.child.wait().code == 44)
            removeDirectory(sandbox.directory)
        }

        @Test func endsSessionsWhenItStops() async throws {
            let sandbox = try InitProcess(["sleep", "100"])
            let session = try LocalSession(.terminal, isRaw: true, patience: .milliseconds(300), dial: sandbox.dialler)
            #expect(await eventually { session.text.contains("ready> ") })
            let status = try await offload { try sandbox.stop() }
            #expect(status == 128 + SIGTERM)
            // Told how it ended, or cut off: in any case it ends.
            _ = try? await session.result(within: .seconds(5))
        }

        @Test func aSecondSIGTERMEndsTheWaiting() throws {
            let sandbox = try InitProcess(["sh", "-c", "trap '' TERM; echo up; sleep 3; sleep 3; sleep 3"])
            while !readText(sandbox.logPath).contains("up") { usleep(5000) }
            try sandbox.child.signal(SIGTERM)
            #expect(try !sandbox.child.hasEnded(within: 300))
            try sandbox.child.signal(SIGTERM)
            #expect(try sandbox.child.wait().code == 128 + SIGKILL)
            if let left = kill(sandbox.status.pid, SIGKILL) as Int32? { #expect(left == 0) }
            removeDirectory(sandbox.directory)
        }
    }
}
