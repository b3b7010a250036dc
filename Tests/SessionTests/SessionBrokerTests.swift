import Glibc
import LinuxSystem
import Synchronization
import Testing

@testable import Isolation

/// An agent with one SMI.
private final class OneSandbox: SessionResolving {
    let sandbox: InitProcess
    let isFrozen = Mutex(false)
    let isCancelled = Mutex(false)

    init(_ sandbox: InitProcess) {
        self.sandbox = sandbox
    }

    func connect(_ user: String) async throws -> Descriptor {
        guard user == "alice" else {
            throw IsolationError(.sandboxUnknown, cause: "there is no SMI of \(user)", remedy: "launch one")
        }
        do {
            while isFrozen.withLock(\.self) { try await Task.sleep(for: .milliseconds(5)) }
        } catch {
            isCancelled.withLock { $0 = true }
            throw error
        }
        let endpoint = sandbox.endpoint
        return try await offload { try InitConnection.connect(endpoint) }
    }

    func endpoint(_ user: String) async -> InitEndpoint? {
        user == "alice" ? sandbox.endpoint : nil
    }
}

extension SessionProcessTests {
    @Suite struct SessionBrokerTests {
        private struct Fixture {
            let sandbox: InitProcess
            let agent: OneSandbox
            let broker: SessionBroker
            var path: String { sandbox.directory + "/session.sock" }
            var dialler: SessionDial { BrokerClient.dialler(socketPath: path, user: "alice") }

            init() throws {
                sandbox = try InitProcess()
                agent = OneSandbox(sandbox)
                broker = try SessionBroker(path: sandbox.directory + "/session.sock", resolver: agent)
                broker.start()
            }

            func end() throws {
                broker.stop()
                try sandbox.stop()
            }
        }

        @Test func givesAConnectionThatCarriesASession() async throws {
            let fixture = try Fixture()
            let (exit, output, _) = try await LocalSession.run(["echo", "through"], dial: fixture.dialler)
            #expect(exit == .exited(.status(0)))
            #expect(output == Array("through\n".utf8))
            #expect(await eventually { fixture.broker.count == 0 })
            try fixture.end()
        }

        @Test func socketIsForItsOwnerOnly() throws {
            let fixture = try Fixture()
            var status = stat()
            #expect(stat(fixture.path, &status) == 0)
            #expect(status.st_mode & 0o777 == 0o600)
            try fixture.end()
            #expect(stat(fixture.path, &status) != 0)
        }

        @Test func passesTheAgentsErrorOn() async throws {
            let fixture = try Fixture()
            let path = fixture.path
            let error = await #expect(throws: IsolationError.self) {
                try await offload { try BrokerClient.dial(socketPath: path, user: "nobody") }
            }
            #expect(error?.code == .sandboxUnknown)
            #expect(error?.cause == "there is no SMI of nobody")
            #expect(error?.remedy == "launch one")
            try fixture.end()
        }

        @Test func saysThatThereIsNoDaemon() {
            let error = #expect(throws: IsolationError.self) {
                try BrokerClient.dial(socketPath: "/tmp/no/such/socket", user: "alice")
            }
            #expect(error?.code == .daemonUnreachable)
        }

        @Test func endsTheConnectionWhenTheClientDies() async throws {
            let fixture = try Fixture()
            let before = fixture.sandbox.descriptorCount
            var link: SessionLink? = try await dial(fixture)
            #expect(fixture.broker.count == 1)
            #expect(await eventually { fixture.sandbox.descriptorCount == before + 1 })
            _ = link?.stream
            link = nil
            #expect(await eventually { fixture.broker.count == 0 && fixture.sandbox.descriptorCount == before })
            try fixture.end()
        }

        private func dial(_ fixture: Fixture) async throws -> SessionLink {
            let dialler = fixture.dialler
            return try await offload { try dialler() }
        }

        @Test func closesEverythingOfAUserBeforeAFreeze() async throws {
            let fixture = try Fixture()
            let before = fixture.sandbox.descriptorCount
            var links: [SessionLink] = []
            for _ in 0..<10 { links.append(try await dial(fixture)) }
            // One that an earlier daemon gave away: this one does not know it.
            let stray = try fixture.sandbox.dial()
            await fixture.broker.closeAll("bob")
            #expect(fixture.broker.count == 10)
            let time = await ContinuousClock().measure { await fixture.broker.closeAll("alice") }
            #expect(fixture.sandbox.descriptorCount == before)
            #expect(fixture.broker.count == 0)
            print("closeAll: \(time)")
            var byte: UInt8 = 0
            for link in links + [stray] {
                #expect(StreamSocket.wait(link.stream, for: POLLIN, atMost: .seconds(1)))
                #expect(read(link.stream.raw, &byte, 1) <= 0)
            }
            try fixture.end()
        }

        @Test func sessionsWaitForTheSandboxAndGoOn() async throws {
            let fixture = try Fixture()
            let data = Array((0..<300_000).map { "\($0)\n" }.joined().utf8)
            let session = try LocalSession(.shell("cat"), dial: fixture.dialler)
            runOnThread {
                session.send(data)
                session.endInput()
            }
            for _ in 0..<10 {
                fixture.agent.isFrozen.withLock { $0 = true }
                await fixture.broker.closeAll("alice")
                try await Task.sleep(for: .milliseconds(20))
                fixture.agent.isFrozen.withLock { $0 = false }
                try await Task.sleep(for: .milliseconds(20))
            }
            #expect(try await session.result().outcome == .exited(.status(0)))
            #expect(isSame(session.output, data))
            try fixture.end()
        }

        @Test func sessionsSurviveARestartOfTheDaemon() async throws {
            let fixture = try Fixture()
            let session = try LocalSession(
                .shell("read line; echo got $line; read line; echo got $line"),
                dial: fixture.dialler
            )
            session.send("one\n")
            #expect(await eventually { session.text == "got one\n" })
            fixture.broker.stop()
            let second = try SessionBroker(path: fixture.path, resolver: fixture.agent)
            second.start()
            session.send("two\n")
            #expect(try await session.result().outcome == .exited(.status(0)))
            #expect(session.text == "got one\ngot two\n")
            second.stop()
            try fixture.end()
        }

        @Test func stopsAskingForAClientThatHasGone() async throws {
            let fixture = try Fixture()
            fixture.agent.isFrozen.withLock { $0 = true }
            let leash = try StreamSocket.connect(unix: fixture.path, type: SOCK_SEQPACKET)
            try DescriptorPassing.send(BrokerWire.request(user: "alice"), [], over: leash)
            try await Task.sleep(for: .milliseconds(50))
            leash.close()
            #expect(await eventually { fixture.agent.isCancelled.withLock(\.self) })
            try fixture.end()
        }

        @Test func dropsGarbageAndKeepsServing() async throws {
            let fixture = try Fixture()
            var generator = FaultyRelay.Generator(state: 1)
            for _ in 0..<300 {
                let socket = try StreamSocket.connect(unix: fixture.path, type: SOCK_SEQPACKET)
                let size = Int.random(in: 1..<200, using: &generator)
                var bytes = (0..<size).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
                if Bool.random(using: &generator) { bytes = Array("SMIB".utf8) + [1] + bytes }
                try? DescriptorPassing.send(bytes, [], over: socket)
            }
            let (exit, _, _) = try await LocalSession.run(["true"], dial: fixture.dialler)
            #expect(exit == .exited(.status(0)))
            try fixture.end()
        }
    }
}
