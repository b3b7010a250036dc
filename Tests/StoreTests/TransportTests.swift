import Crypto
import Foundation
import GRPCCore
import Testing
import X509

@testable import Orchestrator

@Suite("Connections between daemons", .serialized, .timeLimit(.minutes(5)))
struct TransportTests {
    @Test("reach the right host, which knows who calls")
    func identities() async throws {
        let cluster = try TestCluster()
        try await withServer(try await cluster.serve([EchoPeer()])) { server in
            let connections = cluster.connections()
            let peer = try await connections.connection(to: "h1", at: server.address)
            #expect(peer.greeting.host == "h1")
            #expect(peer.greeting.cluster == cluster.server.cluster)
            #expect(peer.version == 1)
            #expect(try await peer.call("whoami", [], limit: .seconds(60)) == Array("h2".utf8))
            await connections.close(grace: .zero)
        }
    }

    @Test("carry a handler's failure whole")
    func failures() async throws {
        let cluster = try TestCluster()
        try await withServer(try await cluster.serve([EchoPeer()])) { server in
            let connections = cluster.connections()
            let peer = try await connections.connection(to: "h1", at: server.address)
            let error = try await failure(OrchestratorError.self) {
                try await peer.call("fail", [], limit: .seconds(60))
            }
            #expect(error.code == .userUnknown)
            #expect([error.cause, error.remedy, error.log] == ["no such user", "launch it", "line 1\nline 2"])
            await connections.close(grace: .zero)
        }
    }

    @Test("are refused to a host of another cluster, and the cluster's own are served on")
    func otherAuthority() async throws {
        let cluster = try TestCluster()
        let stranger = try CertificateAuthority.create().makeIdentity(host: "h2")
        // Trusts our server, shows a certificate of its own authority.
        let posing = try HostIdentity(chain: [stranger.chain[0], cluster.authority.certificate], key: stranger.key)
        try await withServer(try await cluster.serve([EchoPeer()])) { server in
            for identity in [stranger, posing] {
                let connections = PeerConnections(identity: identity, build: "test", limits: .patient)
                let error = try await failure(OrchestratorError.self) {
                    try await connections.connection(to: "h1", at: server.address)
                }
                #expect(error.code == .hostDown)
                #expect(error.cause.contains("certificate"), "\(error)")
                await connections.close(grace: .zero)
            }
            try await expectService(cluster, server)
        }
    }

    @Test("are refused when the server is another host than the expected one")
    func wrongHost() async throws {
        let cluster = try TestCluster()
        try await withServer(try await cluster.serve([EchoPeer()])) { server in
            let connections = cluster.connections()
            let error = try await failure(OrchestratorError.self) {
                try await connections.connection(to: "h3", at: server.address)
            }
            #expect(error.cause.contains("another host"), "\(error)")
            await connections.close(grace: .zero)
        }
    }

    @Test("are refused to a caller without a certificate")
    func noCertificate() async throws {
        let cluster = try TestCluster()
        try await withServer(try await cluster.serve([EchoPeer()])) { server in
            let address = try server.address
            let target = "\(address.host):\(address.port)"
            let output = try await run("openssl", "s_client", "-connect", target, "-alpn", "h2", "-ign_eof")
            #expect(output.text.contains("certificate required"), "\(output.text)")
            try await expectService(cluster, server)
        }
    }

    @Test("are refused below TLS 1.3")
    func oldTLS() async throws {
        let cluster = try TestCluster()
        try await withServer(try await cluster.serve([EchoPeer()])) { server in
            let address = try server.address
            let target = "\(address.host):\(address.port)"
            let output = try await run("openssl", "s_client", "-connect", target, "-tls1_2", "-ign_eof")
            #expect(output.text.contains("alert protocol version"), "\(output.text)")
            #expect(output.status != 0)
            try await expectService(cluster, server)
        }
    }

    @Test("are refused in plain text")
    func plainText() async throws {
        let cluster = try TestCluster()
        try await withServer(try await cluster.serve([EchoPeer()])) { server in
            let address = try server.address
            let script = """
                exec 3<>/dev/tcp/\(address.host)/\(address.port)
                printf 'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' >&3
                cat <&3 | tr -cd 'a-zA-Z' ; echo end
                """
            // Ends when the server has closed the connection.
            let output = try await run("bash", "-c", script)
            #expect(output.text.hasSuffix("end\n") && !output.text.contains("HTTP"), "\(output.text)")
            try await expectService(cluster, server)
        }
    }

    @Test("are refused between versions that have nothing in common, and the error names both")
    func versions() async throws {
        let cluster = try TestCluster()
        var greeting = Greeting(host: "h1", build: "9.0", cluster: cluster.server.cluster)
        greeting.protocolVersion = ProtocolVersion(min: 7, max: 9)
        try await withServer(try await cluster.serve([EchoPeer()], greeting: greeting)) { server in
            let connections = cluster.connections()
            let error = try await failure(OrchestratorError.self) {
                try await connections.connection(to: "h1", at: server.address)
            }
            #expect(error.code == .version)
            #expect(error.cause.contains("versions 7 to 9") && error.cause.contains("version 1"), "\(error)")
            #expect(error.remedy == "upgrade smirun on this host")
            await connections.close(grace: .zero)
        }
    }

    @Test("say at once when nobody listens")
    func nobodyListens() async throws {
        let cluster = try TestCluster()
        let server = try await cluster.serve([])
        let address = try server.address
        await server.stop(grace: .zero)
        let connections = cluster.connections()
        let error = try await failure(OrchestratorError.self) {
            try await connections.connection(to: "h1", at: address)
        }
        #expect(error.code == .hostDown)
        #expect(error.cause.contains("h1"))
        await connections.close(grace: .zero)
    }

    @Test("are made once for many callers, and made again after they broke")
    func reuse() async throws {
        let cluster = try TestCluster()
        let connections = cluster.connections()
        let first = try await cluster.serve([EchoPeer()])
        let address = try first.address
        let all = try await withThrowingTaskGroup(of: PeerConnection.self) { group in
            for _ in 0..<8 {
                group.addTask { try await connections.connection(to: "h1", at: address) }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(all.allSatisfy { $0 === all[0] })
        await first.stop(grace: .zero)
        await all[0].waitUntilBroken()
        try await withServer(try await cluster.serve([EchoPeer()], port: address.port)) { _ in
            let again = try await connections.connection(to: "h1", at: address)
            #expect(again !== all[0])
            #expect(try await again.call("echo", [5], limit: .seconds(60)) == [5])
            await connections.close(grace: .zero)
        }
        let error = try await failure(OrchestratorError.self) {
            try await connections.connection(to: "h1", at: address)
        }
        #expect(error.cause.contains("stopping"))
    }

    @Test("end a call at its time limit")
    func timeLimit() async throws {
        let cluster = try TestCluster()
        try await withServer(try await cluster.serve([EchoPeer()])) { server in
            let connections = cluster.connections()
            let peer = try await connections.connection(to: "h1", at: server.address)
            let error = try await failure(OrchestratorError.self) {
                try await peer.call("wait", [], limit: .milliseconds(200))
            }
            #expect(error.cause.contains("in time"), "\(error)")
            #expect(try await peer.call("echo", [1], limit: .seconds(60)) == [1])
            await connections.close(grace: .zero)
        }
    }

    @Test("end a call whose task is cancelled, and tell the handler")
    func cancellation() async throws {
        let cluster = try TestCluster()
        let (begun, begin) = AsyncStream<Void>.makeStream()
        let (cancellations, heard) = AsyncStream<Void>.makeStream()
        let peer = EchoPeer(waiting: { begin.yield() }, cancelled: { heard.yield() })
        try await withServer(try await cluster.serve([peer])) { server in
            let connections = cluster.connections()
            let peer = try await connections.connection(to: "h1", at: server.address)
            let call = Task { try await peer.call("wait", [], limit: .seconds(600)) }
            for await _ in begun { break }
            call.cancel()
            await #expect(throws: OrchestratorError.self) { try await call.value }
            for await _ in cancellations { break }
            await connections.close(grace: .zero)
        }
    }

    @Test("do not keep a stopping server from ending")
    func shutdown() async throws {
        let cluster = try TestCluster()
        let (begun, begin) = AsyncStream<Void>.makeStream()
        let peer = EchoPeer(waiting: { begin.yield() })
        let server = try await cluster.serve([peer])
        let connections = cluster.connections()
        let connection = try await connections.connection(to: "h1", at: server.address)
        let call = Task { try await connection.call("wait", [], limit: .seconds(600)) }
        let silent = connection.handoff()
        try await silent.send(.with { $0.prepare.user = "alice" })
        #expect(try await silent.next()?.prepared.epoch == 7)
        for await _ in begun { break }
        let taken = await ContinuousClock().measure { await server.stop(grace: .milliseconds(100)) }
        #expect(taken < .seconds(60))
        await #expect(throws: OrchestratorError.self) { try await call.value }
        await #expect(throws: OrchestratorError.self) { while try await silent.next() != nil {} }
        await #expect(throws: OrchestratorError.self) {
            while true { try await silent.send(.with { $0.chunk.data = Data([1]) }) }
        }
        await connections.close(grace: .zero)
    }

    // gRPC closes a stream when the reply has been handled, though a message may just be on its way to it. More than 200
    // resets within 30 s would end the connection.
    @Test("end in the middle of a flow of messages, by either side, again and again", arguments: [true, false])
    func endInFlow(byServer: Bool) async throws {
        let cluster = try TestCluster()
        try await withServer(try await cluster.serve([EchoPeer()])) { server in
            let connections = cluster.connections()
            let peer = try await connections.connection(to: "h1", at: server.address)
            let data = Data(repeating: 7, count: 1 << 10)
            for round in 0..<150 {
                let call = peer.relay()
                // What is not answered is bounded, as it is in all that we send.
                let unanswered = BoundedChannel<Void>(limit: 64)
                let flow = Task {
                    for number in 0... {
                        if byServer, number == round % 20 { try await call.send(.with { $0.open.user = "nobody" }) }
                        try await call.send(.with { $0.data = data })
                        try await unanswered.send(())
                    }
                }
                var answers = 0
                while byServer || answers <= round % 20, try await call.next() != nil {
                    answers += 1
                    _ = try await unanswered.next()
                }
                if !byServer { call.cancel() }
                unanswered.finish()
                await #expect(throws: (any Error).self) { try await flow.value }
            }
            #expect(try await peer.call("echo", [1], limit: .seconds(60)) == [1])
            await connections.close(grace: .zero)
        }
    }

    @Test("may arrive while a server stops, at any moment")
    func arrivalsDuringShutdown() async throws {
        let cluster = try TestCluster()
        for round in 0..<20 {
            let server = try await cluster.serve([EchoPeer()])
            let address = try server.address
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<3 {
                    group.addTask {
                        let connections = cluster.connections()
                        // Whether it comes in time depends on the moment; that the server ends does not.
                        let connection = try? await connections.connection(to: "h1", at: address)
                        _ = try? await connection?.call("echo", [1], limit: .seconds(60))
                        await connections.close(grace: .zero)
                    }
                }
                group.addTask { await server.stop(grace: .milliseconds(round)) }
                try await group.waitForAll()
            }
        }
    }

    @Test("carry both directions of a duplex call, and its end")
    func duplex() async throws {
        let cluster = try TestCluster()
        try await withServer(try await cluster.serve([EchoPeer()])) { server in
            let connections = cluster.connections()
            let peer = try await connections.connection(to: "h1", at: server.address)
            let call = peer.handoff()
            try await call.send(.with { $0.prepare.user = "alice" })
            #expect(try await call.next()?.prepared.epoch == 7)
            for _ in 0..<100 { try await call.send(.with { $0.chunk.data = Data(count: 100_000) }) }
            call.finish()
            #expect(try await call.next()?.resumed.generation == 10_000_000)
            #expect(try await call.next() == nil)

            let aborted = peer.handoff()
            try await aborted.send(.with { $0.abort.reason.cause = "changed my mind" })
            #expect(try await aborted.next()?.failed.cause == "changed my mind")
            #expect(try await aborted.next() == nil)

            let relay = peer.relay()
            for byte in 0..<50 as Range<UInt8> {
                try await relay.send(.with { $0.data = Data([byte]) })
                #expect(try await relay.next()?.data == Data([byte]))
            }
            relay.cancel()
            await #expect(throws: OrchestratorError.self) { try await relay.next() }
            await connections.close(grace: .zero)
        }
    }

    @Test("cannot be listened for on an address that is taken or not an address")
    func takenAddress() async throws {
        let cluster = try TestCluster()
        try await withServer(try await cluster.serve([])) { server in
            let port = try server.address.port
            let taken = try await failure(OrchestratorError.self) { try await cluster.serve([], port: port) }
            #expect(taken.cause.contains("127.0.0.1 port \(port)"), "\(taken)")
        }
        let wrong = try await failure(OrchestratorError.self) {
            try await ClusterServer.start(
                .peers(cluster.server, address: "nowhere", port: 0),
                greeting: Greeting(host: "h1", build: "test", cluster: ""),
                services: []
            )
        }
        #expect(wrong.code == .badArgument)
    }

    /// A proper host is served, whatever strangers did before.
    private func expectService(_ cluster: TestCluster, _ server: ClusterServer) async throws {
        let connections = cluster.connections()
        let peer = try await connections.connection(to: "h1", at: server.address)
        #expect(try await peer.call("echo", [9], limit: .seconds(60)) == [9])
        await connections.close(grace: .zero)
    }
}

@Suite("Protocol versions")
struct ProtocolVersionTests {
    @Test("agree on the newest that both speak")
    func agreement() throws {
        let own = ProtocolVersion(min: 2, max: 5)
        #expect(try own.agree(with: ProtocolVersion(min: 1, max: 3), at: "host b") == 3)
        #expect(try own.agree(with: ProtocolVersion(min: 5, max: 9), at: "host b") == 5)
        #expect(try own.agree(with: own, at: "host b") == 5)
    }

    @Test("name the side to upgrade when there is none")
    func disagreement() {
        let own = ProtocolVersion(min: 2, max: 5)
        let old = #expect(throws: OrchestratorError.self) {
            try own.agree(with: ProtocolVersion(min: 1, max: 1), at: "host b")
        }
        #expect(old?.cause == "host b speaks protocol version 1, this host versions 2 to 5")
        #expect(old?.remedy == "upgrade smirun on host b")
        let new = #expect(throws: OrchestratorError.self) {
            try own.agree(with: ProtocolVersion(min: 6, max: 8), at: "host b")
        }
        #expect(new?.remedy == "upgrade smirun on this host")
    }
}
