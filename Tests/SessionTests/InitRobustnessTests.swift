import Glibc
import LinuxSystem
import Testing

@testable import Isolation

extension SessionProcessTests {
    @Suite struct InitRobustnessTests {
        private func connect(_ sandbox: InitProcess) throws -> Descriptor {
            try StreamSocket.connect(address: "127.0.0.1", port: sandbox.endpoint.port, timeout: .seconds(2))
        }

        private func send(_ bytes: [UInt8], _ socket: Descriptor) {
            _ = bytes.withUnsafeBytes { StreamSocket.send(socket, $0) }
        }

        /// Everything up to the end; nil where there is none in time.
        private func answer(_ socket: Descriptor, within time: Duration = .seconds(5)) -> [UInt8]? {
            var bytes: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 65536)
            while StreamSocket.wait(socket, for: POLLIN, atMost: time) {
                switch buffer.withUnsafeMutableBytes({ StreamSocket.receive(socket, into: $0) }) {
                case .moved(let count): bytes += buffer[..<count]
                case .closed: return bytes
                case .wouldBlock: continue
                }
            }
            return nil
        }

        private func hello(_ sandbox: InitProcess, versions: (UInt16, UInt16) = (1, 1)) -> [UInt8] {
            var writer = ByteWriter()
            writer.raw(Array("SMI1".utf8))
            writer.integer(versions.0)
            writer.integer(versions.1)
            writer.raw(sandbox.endpoint.secret)
            return writer.bytes
        }

        @Test func answersNothingToAWrongSecret() throws {
            let sandbox = try InitProcess()
            for position in [0, 15, 31] {
                var wrong = sandbox.endpoint
                wrong.secret[position] ^= 1
                #expect(throws: IsolationError.self) { try InitConnection.connect(wrong) }
                let socket = try connect(sandbox)
                var bytes = hello(sandbox)
                bytes[8 + position] ^= 0x80
                send(bytes, socket)
                #expect(answer(socket) == [])
            }
            #expect(throws: Never.self) { try SessionCommands.status(dial: sandbox.dialler) }
            try sandbox.stop()
        }

        @Test func chooseAVersionOrSayThatThereIsNone() throws {
            let sandbox = try InitProcess()
            let both = try connect(sandbox)
            send(hello(sandbox, versions: (0, 9)) + FrameHeader.frame(.bye), both)
            #expect(answer(both)?[4...5] == [1, 0])
            let later = try connect(sandbox)
            send(hello(sandbox, versions: (2, 9)), later)
            #expect(answer(later)?[4...5] == [0, 0])
            try sandbox.stop()
        }

        @Test func dropsASilentStrangerAfterTwoSeconds() throws {
            let sandbox = try InitProcess()
            let socket = try connect(sandbox)
            send(Array("SMI1".utf8), socket)
            let began = ContinuousClock.now
            #expect(answer(socket, within: .seconds(10)) == [])
            #expect(ContinuousClock.now - began > .milliseconds(1500))
            try sandbox.stop()
        }

        @Test func strangersNeverKeepTheAgentOut() async throws {
            let sandbox = try InitProcess()
            let before = sandbox.descriptorCount
            var strangers: [Descriptor] = []
            for _ in 0..<200 {
                strangers.append(try connect(sandbox))
                if strangers.count.isMultiple(of: 20) {
                    #expect(throws: Never.self) { try SessionCommands.status(dial: sandbox.dialler) }
                }
            }
            #expect(sandbox.descriptorCount <= before + 18)
            strangers = []
            #expect(await eventually { sandbox.descriptorCount == before })
            try sandbox.stop()
        }

        @Test func survivesGarbageBeforeAndAfterTheGreeting() async throws {
            let sandbox = try InitProcess()
            let before = sandbox.descriptorCount
            var generator = FaultyRelay.Generator(state: 99)
            for round in 0..<600 {
                let socket = try connect(sandbox)
                var bytes = round.isMultiple(of: 3) ? [] : hello(sandbox)
                for _ in 0..<Int.random(in: 0..<6, using: &generator) { bytes += fuzz(&generator) }
                send(bytes, socket)
                // Some stay for an answer, some leave at once.
                if round.isMultiple(of: 7) { _ = answer(socket, within: .milliseconds(20)) }
            }
            #expect(throws: Never.self) { try SessionCommands.status(dial: sandbox.dialler) }
            #expect(await eventually { sandbox.descriptorCount - before <= 300 })
            #expect(sandbox.kilobytes("VmRSS") < 4000)
            #expect(try sandbox.child.poll() == nil)
            try sandbox.stop()
        }

        /// Frames that are nearly right, and bytes that are nothing.
        private func fuzz(_ generator: inout FaultyRelay.Generator) -> [UInt8] {
            let types: [FrameType] = [
                .open, .attach, .list, .status, .logs, .bye, .data, .end, .acknowledge, .close, .resize, .signal,
                .detach,
                .exitAcknowledge, .opened,
            ]
            var header = FrameHeader(types.randomElement(using: &generator) ?? .open)
            header.value =
                [0, 1, 2, .max, .random(in: 0 ... .max, using: &generator)].randomElement(using: &generator) ?? 0
            header.stream = UInt8.random(in: 0..<4, using: &generator)
            var payload = (0..<Int.random(in: 0..<120, using: &generator)).map { _ in
                UInt8.random(in: .min ... .max, using: &generator)
            }
            if header.kind == .open, Bool.random(using: &generator) {
                // Well-formed but for one byte.
                let frame = SessionStart.exec(argv: ["true"], environment: ["A=b"], workingDirectory: "").frame(
                    key: SessionKey(),
                    window: nil
                )
                payload = Array(frame.dropFirst(FrameHeader.size))
                let index = Int.random(in: 0..<payload.count, using: &generator)
                payload[index] = UInt8.random(in: .min ... .max, using: &generator)
            }
            let lengths = [payload.count, payload.count, payload.count, 1 << 20, 0xffff_ffff, 0]
            header.length = lengths.randomElement(using: &generator) ?? 0
            return header.encoded() + payload
        }

        @Test func refusesInputThatWasNotAskedFor() throws {
            let sandbox = try InitProcess()
            let cases: [(String, [UInt8])] = [
                ("beyond the limit", dataFrames(from: 0, count: 3, of: 65536)),
                ("with a gap", dataFrames(from: 1, count: 1, of: 10)),
                ("acknowledging the future", FrameHeader.frame(.acknowledge, stream: 1, value: 1)),
                ("ending too early", FrameHeader.frame(.end, value: 1)),
                ("an exit that was not", FrameHeader.frame(.exitAcknowledge)),
                ("a second request", FrameHeader.frame(.list)),
            ]
            for (name, bytes) in cases {
                let link = try sandbox.dial()
                let start = SessionStart.shell("sleep 5")
                send(start.frame(key: SessionKey(), window: nil) + bytes, link.stream)
                let reader = FrameReader(link.stream)
                var refused = false
                while let (header, _) = try reader.next(before: .now + .seconds(5)) {
                    refused = refused || (header.kind == .refused && header.value == SessionRefusal.breach.rawValue)
                }
                #expect(refused, "\(name)")
            }
            try sandbox.stop()
        }

        private func dataFrames(from offset: UInt64, count: Int, of size: Int) -> [UInt8] {
            (0..<count).flatMap { index in
                FrameHeader.frame(
                    .data,
                    value: offset + UInt64(index * size),
                    payload: [UInt8](repeating: 65, count: size)
                )
            }
        }

        @Test func aClientThatReadsNothingHoldsUpNobodyElse() async throws {
            let sandbox = try InitProcess()
            let slow = try sandbox.dial()
            send(SessionStart.shell("yes").frame(key: SessionKey(), window: nil), slow.stream)
            try await Task.sleep(for: .milliseconds(300))
            let (exit, output, _) = try await LocalSession.run(["echo", "quick"], dial: sandbox.dialler)
            #expect(exit == .exited(.status(0)))
            #expect(output == Array("quick\n".utf8))
            #expect(sandbox.kilobytes("VmRSS") < 2000)
            let ticks = sandbox.ticks
            try await Task.sleep(for: .milliseconds(500))
            // Stopped, not spinning.
            #expect(sandbox.ticks - ticks <= 2)
            try sandbox.stop()
        }

        @Test func carriesTwoHundredSessionsAndLeavesNothingBehind() async throws {
            let sandbox = try InitProcess()
            let descriptors = sandbox.descriptorCount
            var sessions: [LocalSession] = []
            for number in 0..<200 {
                let start =
                    number.isMultiple(of: 4)
                    ? SessionStart.terminal(
                        argv: ["sh", "-c", "stty -echo; echo here; read line; echo got $line"],
                        environment: [],
                        workingDirectory: ""
                    )
                    : .shell("echo here; read line; echo got $line")
                sessions.append(try LocalSession(start, dial: sandbox.dialler))
            }
            for session in sessions {
                #expect(await eventually(within: .seconds(30)) { session.text.contains("here") })
            }
            #expect(try SessionCommands.status(dial: sandbox.dialler).liveSessions == 200)
            print("200 sessions: smi-init \(sandbox.kilobytes("VmRSS")) KB resident")
            for (number, session) in sessions.enumerated() { session.send("\(number)\n") }
            for (number, session) in sessions.enumerated() {
                #expect(try await session.result().outcome == .exited(.status(0)))
                #expect(session.text.contains("got \(number)"))
            }
            #expect(await eventually { sandbox.descriptorCount == descriptors })
            #expect(await eventually { sandbox.kilobytes("RssAnon") < 600 })
            try sandbox.stop()
        }

        @Test func refusesMoreSessionsThanItsLimit() async throws {
            let sandbox = try InitProcess()
            var links: [SessionLink] = []
            var refused = 0
            for _ in 0..<260 {
                let link = try sandbox.dial()
                send(SessionStart.shell("read line").frame(key: SessionKey(), window: nil), link.stream)
                let first = try FrameReader(link.stream).next(before: .now + .seconds(5))
                if first?.0.kind == .refused { refused += 1 }
                links.append(link)
            }
            #expect(refused == 4)
            try sandbox.stop()
        }

        @Test func isSmallAndIdleWhenNothingHappens() async throws {
            let sandbox = try InitProcess(["sleep", "100"])
            let (_, output, _) = try await LocalSession.run(
                ["head", "-c", "50000000", "/dev/zero"],
                dial: sandbox.dialler
            )
            #expect(output.count == 50_000_000)
            #expect(await eventually { sandbox.kilobytes("RssAnon") < 100 })
            print("idle: smi-init \(sandbox.kilobytes("VmRSS")) KB resident")
            #expect(sandbox.kilobytes("VmRSS") < 1024)
            var status = stat()
            #expect(stat(InitProcess.executable, &status) == 0)
            print("smi-init: \(status.st_size) bytes on disk")
            #expect(status.st_size < 1_000_000)
            let ticks = sandbox.ticks
            try await Task.sleep(for: .seconds(1))
            #expect(sandbox.ticks == ticks)
            try sandbox.stop()
        }
    }
}
