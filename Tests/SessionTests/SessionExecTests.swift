import Glibc
import LinuxSystem
import Testing

@testable import Isolation

extension SessionProcessTests {
    @Suite struct SessionExecTests {
        private func noise(_ count: Int) -> [UInt8] {
            var generator = FaultyRelay.Generator(state: 7)
            return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        }

        @Test func passesBinaryDataThroughUnchanged() async throws {
            let sandbox = try InitProcess()
            let data = noise(5_000_001)
            let (exit, output, error) = try await LocalSession.run(["cat"], input: data, dial: sandbox.dialler)
            #expect(exit == .exited(.status(0)))
            #expect(isSame(output, data))
            #expect(error.isEmpty)
            try sandbox.stop()
        }

        @Test func separatesStandardErrorFromOutput() async throws {
            let sandbox = try InitProcess()
            let (exit, output, error) = try await LocalSession.run(
                ["sh", "-c", "echo to output; echo to error >&2; exit 7"],
                dial: sandbox.dialler
            )
            #expect(exit == .exited(.status(7)))
            #expect(output == Array("to output\n".utf8))
            #expect(error == "to error\n")
            try sandbox.stop()
        }

        @Test func tellsAProgramThatIsMissingFromOneThatCannotRun() async throws {
            let sandbox = try InitProcess()
            let missing = try await LocalSession.run(["no-such-program"], dial: sandbox.dialler).exit
            #expect(missing == .exited(.notStarted(stage: 6, code: ENOENT)))
            let directory = try await LocalSession.run(["/etc"], dial: sandbox.dialler).exit
            #expect(directory == .exited(.notStarted(stage: 6, code: EACCES)))
            let text = try await LocalSession.run(["/etc/passwd"], dial: sandbox.dialler).exit
            #expect(text == .exited(.notStarted(stage: 6, code: EACCES)))
            let elsewhere = SessionStart.exec(argv: ["true"], environment: [], workingDirectory: "/no/such/directory")
            let session = try LocalSession(elsewhere, dial: sandbox.dialler)
            #expect(try await session.result().outcome == .exited(.notStarted(stage: 5, code: ENOENT)))
            try sandbox.stop()
        }

        @Test func reportsTheSignalThatKilledTheProgram() async throws {
            let sandbox = try InitProcess()
            let exit = try await LocalSession.run(["sh", "-c", "kill -9 $$"], dial: sandbox.dialler).exit
            #expect(exit == .exited(.signal(SIGKILL)))
            try sandbox.stop()
        }

        @Test func givesTheProgramItsEnvironmentAndDirectory() async throws {
            let sandbox = try InitProcess(environment: ["A=sandbox", "B=sandbox"])
            let start = SessionStart.exec(
                argv: ["sh", "-c", "echo $A $B $HOME; pwd; ls /proc/self/fd | wc -l"],
                environment: ["B=request"],
                workingDirectory: "/usr"
            )
            let session = try LocalSession(start, dial: sandbox.dialler)
            #expect(try await session.result().outcome == .exited(.status(0)))
            // Three standard streams and the one that lists them.
            #expect(session.text == "sandbox request /root\n/usr\n4\n")
            try sandbox.stop()
        }

        @Test func closesTheProgramsInputWhenOursEnds() async throws {
            let sandbox = try InitProcess()
            let (exit, output, _) = try await LocalSession.run(["wc", "-c"], input: noise(1234), dial: sandbox.dialler)
            #expect(exit == .exited(.status(0)))
            #expect(String(decoding: output, as: UTF8.self).contains("1234"))
            try sandbox.stop()
        }

        @Test func endsAProgramWhoseOutputNobodyReads() async throws {
            let sandbox = try InitProcess()
            let session = try LocalSession(
                .exec(argv: ["yes"], environment: [], workingDirectory: ""),
                collects: false,
                dial: sandbox.dialler
            )
            var buffer = [UInt8](repeating: 0, count: 100)
            #expect(read(session.outputEnd.raw, &buffer, 100) > 0)
            session.outputEnd.close()
            #expect(try await session.result().outcome == .exited(.signal(SIGPIPE)))
            try sandbox.stop()
        }

        @Test func takesInputThatTheProgramDoesNotWant() async throws {
            let sandbox = try InitProcess()
            let (exit, _, _) = try await LocalSession.run(
                ["sh", "-c", "exec <&-; sleep 0.2; exit 4"],
                input: noise(3_000_000),
                dial: sandbox.dialler
            )
            #expect(exit == .exited(.status(4)))
            try sandbox.stop()
        }

        @Test func doesNotWaitForGrandchildrenThatKeepTheOutputOpen() async throws {
            let sandbox = try InitProcess()
            let began = ContinuousClock.now
            let (exit, output, _) = try await LocalSession.run(
                ["sh", "-c", "sleep 30 & echo begun"],
                dial: sandbox.dialler
            )
            #expect(exit == .exited(.status(0)))
            #expect(output == Array("begun\n".utf8))
            #expect(ContinuousClock.now - began < .seconds(15))
            try sandbox.stop()
        }

        @Test func keepsWhatAGrandchildWritesShortlyAfterTheEnd() async throws {
            let sandbox = try InitProcess()
            let (_, output, _) = try await LocalSession.run(
                ["sh", "-c", "(sleep 0.2; echo late) & exit 0"],
                dial: sandbox.dialler
            )
            #expect(output == Array("late\n".utf8))
            try sandbox.stop()
        }

        @Test func holdsTheProgramUpWhileNobodyReads() async throws {
            let sandbox = try InitProcess()
            let session = try LocalSession(
                .shell("head -c 50000000 /dev/zero; echo done >&2"),
                collects: false,
                dial: sandbox.dialler
            )
            try await Task.sleep(for: .milliseconds(500))
            #expect(session.errorText.isEmpty)
            #expect(sandbox.kilobytes("VmRSS") < 2000)
            let end = session.outputEnd
            let count = try await offload { readToEnd(end.raw).count }
            #expect(count == 50_000_000)
            #expect(try await session.result().outcome == .exited(.status(0)))
            #expect(session.errorText == "done\n")
            try sandbox.stop()
        }

        @Test func movesAHundredMegabytesASecondEachWay() async throws {
            let sandbox = try InitProcess()
            let clock = ContinuousClock()
            let size = 200_000_000
            let toUs = try LocalSession(.shell("head -c \(size) /dev/zero"), collects: false, dial: sandbox.dialler)
            var count = 0
            let outward = try await clock.measure {
                let end = toUs.outputEnd
                count = try await offload {
                    var buffer = [UInt8](repeating: 0, count: 262144)
                    var total = 0
                    while case let count = read(end.raw, &buffer, buffer.count), count > 0 { total += count }
                    return total
                }
                #expect(try await toUs.result().outcome == .exited(.status(0)))
            }
            #expect(count == size)
            let toThem = try LocalSession(.shell("wc -c"), dial: sandbox.dialler)
            let inward = try await clock.measure {
                try await offload {
                    let piece = [UInt8](repeating: 0, count: 1_000_000)
                    for _ in 0..<size / piece.count { toThem.send(piece) }
                    toThem.endInput()
                }
                #expect(try await toThem.result(within: .seconds(120)).outcome == .exited(.status(0)))
            }
            #expect(toThem.text.contains("\(size)"))
            print("exec: \(rate(size, outward)) MB/s out, \(rate(size, inward)) MB/s in")
            try sandbox.stop()
        }

        private func rate(_ bytes: Int, _ time: Duration) -> Int {
            Int(Double(bytes) / 1e6 / (Double(time.milliseconds) / 1000))
        }
    }
}
