import Crypto
import Foundation
import Synchronization
import Testing
import X509

@testable import Orchestrator

@Suite("Joining a cluster", .serialized, .timeLimit(.minutes(5)))
struct EnrolmentTests {
    @Test("gives a new host a certificate that the cluster's hosts accept")
    func joining() async throws {
        try await withEnrolment { enrolment in
            let token = try await enrolment.token()
            let (identity, configuration) = try await enrolment.join(token, host: "h2")
            #expect(identity.host == "h2")
            #expect(identity.cluster == enrolment.cluster.server.cluster)
            #expect(configuration == Array("welcome h2 at 10.0.0.2:7000".utf8))
            try await withServer(try await enrolment.cluster.serve([EchoPeer()])) { server in
                let connections = PeerConnections(identity: identity, build: "test", limits: .patient)
                let peer = try await connections.connection(to: "h1", at: server.address)
                #expect(try await peer.call("whoami", [], limit: .seconds(10)) == Array("h2".utf8))
                await connections.close(grace: .zero)
            }
        }
    }

    @Test("takes a token once")
    func usedToken() async throws {
        try await withEnrolment { enrolment in
            let token = try await enrolment.token()
            _ = try await enrolment.join(token, host: "h2")
            let error = try await failure(OrchestratorError.self) { try await enrolment.join(token, host: "h3") }
            #expect(error.code == .tokenRefused)
            #expect(error.cause.contains("used by host 'h2'"))
            // The name that was refused is free for a host with a token of its own.
            _ = try await enrolment.join(try await enrolment.token(), host: "h3")
        }
    }

    @Test("answers the same host again where its first answer was lost, and nobody else")
    func lostAnswer() async throws {
        try await withEnrolment { enrolment in
            let token = try await enrolment.token()
            let key = P256.Signing.PrivateKey()
            _ = try await enrolment.join(token, host: "h2", key: key)
            let (again, _) = try await enrolment.join(token, host: "h2", key: key)
            #expect(again.host == "h2")
            let error = try await failure(OrchestratorError.self) { try await enrolment.join(token, host: "h2") }
            #expect(error.code == .tokenRefused)
        }
    }

    @Test("lets one of several hosts win that use a token at once")
    func concurrentUse() async throws {
        try await withEnrolment { enrolment in
            let token = try await enrolment.token()
            let joined = await withTaskGroup(of: String?.self, returning: [String].self) { group in
                for index in 2..<8 {
                    group.addTask { try? await enrolment.join(token, host: "h\(index)").identity.host }
                }
                return await group.reduce(into: []) { all, one in if let one { all.append(one) } }
            }
            #expect(joined.count == 1)
            #expect(try await enrolment.store.list(prefix: "certificate/").count == 1)
        }
    }

    @Test("refuses a token whose secret is wrong, that is unknown, or of another cluster")
    func wrongToken() async throws {
        try await withEnrolment { enrolment in
            let token = try await enrolment.token()
            let forged = try token.altered { $0[8] ^= 1 }
            let unknown = try token.altered { $0[0] ^= 1 }
            for token in [forged, unknown] {
                let error = try await failure(OrchestratorError.self) { try await enrolment.join(token, host: "h2") }
                #expect(error.code == .tokenRefused)
                #expect(error.cause.contains("not one of this cluster's"))
            }
            let foreign = try token.altered { $0[24] ^= 1 }
            let error = try await failure(OrchestratorError.self) { try await enrolment.join(foreign, host: "h2") }
            #expect(error.cause.contains("certificate"), "\(error)")
            // None of this has used the real one up.
            _ = try await enrolment.join(token, host: "h2")
        }
    }

    @Test("refuses an expired token")
    func expiredToken() async throws {
        try await withEnrolment { enrolment in
            let token = try await enrolment.token(lifetime: .seconds(60))
            enrolment.clock.advance(61)
            let error = try await failure(OrchestratorError.self) { try await enrolment.join(token, host: "h2") }
            #expect(error.code == .tokenRefused)
            #expect(error.cause.contains("expired"))
        }
    }

    @Test("refuses a name that is taken, and leaves the token good for another")
    func takenName() async throws {
        try await withEnrolment { enrolment in
            try await enrolment.tokens.register(enrolment.cluster.server)
            try await enrolment.tokens.register(enrolment.cluster.server)
            let token = try await enrolment.token()
            let error = try await failure(OrchestratorError.self) { try await enrolment.join(token, host: "h1") }
            #expect(error.code == .hostNameTaken)
            #expect(error.cause.contains("'h1'"))
            _ = try await enrolment.join(token, host: "h2")
            try await enrolment.tokens.release("h2")
            _ = try await enrolment.join(try await enrolment.token(), host: "h2")
        }
    }

    @Test("refuses names that no host can have", arguments: ["", "H1", "a.b", "-a", "a-", HostName.enrolment, "a b"])
    func badNames(name: String) async throws {
        try await withEnrolment { enrolment in
            let token = try await enrolment.token()
            let error = try await failure(OrchestratorError.self) { try await enrolment.join(token, host: name) }
            #expect(error.code == .badArgument)
            #expect(throws: OrchestratorError.self) { try enrolment.cluster.authority.makeIdentity(host: name) }
        }
    }

    @Test("sends no secret to a host of the cluster that poses as the enrolment listener")
    func posingMember() async throws {
        let cluster = try TestCluster()
        let server = try await ClusterServer.start(
            .enrolment(cluster.client, address: "127.0.0.1", port: 0),
            greeting: Greeting(host: "h2", build: "test", cluster: cluster.server.cluster),
            services: []
        )
        try await withServer(server) { server in
            let fingerprint = cluster.authority.certificate.fingerprint
            let token = JoinToken(fingerprint: fingerprint, address: try server.address)
            let error = try await failure(OrchestratorError.self) {
                try await Enrolment.join(token, host: "h3", address: "10.0.0.3:7000", build: "test", limits: .patient)
            }
            #expect(error.cause.contains("certificate"), "\(error)")
        }
    }

    @Test("keeps keys in files that only root can read")
    func files() async throws {
        try await withDirectory { directory in
            let pki = directory + "/pki"
            let authority = try CertificateAuthority.create()
            #expect(!CertificateAuthority.exists(in: pki))
            try authority.save(to: pki)
            let identity = try authority.makeIdentity(host: "h1")
            try identity.save(to: pki)
            for name in ["", "/ca.pem", "/ca.key", "/host.pem", "/host.key"] {
                let attributes = try FileManager.default.attributesOfItem(atPath: pki + name)
                #expect(attributes[.posixPermissions] as? Int == (name.isEmpty ? 0o700 : 0o600), "\(name)")
            }
            let loaded = try HostIdentity.load(from: pki)
            #expect(loaded.host == "h1" && loaded.cluster == identity.cluster)
            #expect(try CertificateAuthority.load(from: pki).certificate == authority.certificate)
            #expect(throws: OrchestratorError.self) { try CertificateAuthority.create().save(to: pki) }
            let missing = #expect(throws: OrchestratorError.self) { try HostIdentity.load(from: directory) }
            #expect(missing?.code == .notAMember)
            let verified = try await run(
                "openssl",
                "verify",
                "-CAfile",
                pki + "/ca.pem",
                "-x509_strict",
                pki + "/host.pem"
            )
            #expect(verified.status == 0, "\(verified.text)")
        }
    }
}

@Suite("Join tokens")
struct JoinTokenTests {
    @Test("survive being printed and read", arguments: ["10.0.0.1", "fd53::1", "host.example.org"])
    func roundTrip(host: String) throws {
        let token = JoinToken(fingerprint: [UInt8](repeating: 0xfe, count: 32), address: PeerAddress(host, 65535))
        #expect(token.text.hasPrefix("smi1."))
        #expect(!token.text.contains("/") && !token.text.contains("+") && !token.text.contains("="))
        #expect(try JoinToken(parsing: "  \(token.text)\n") == token)
    }

    @Test("are refused when damaged anywhere")
    func damage() throws {
        let token = JoinToken(fingerprint: [UInt8](repeating: 1, count: 32), address: PeerAddress("10.0.0.1", 7001))
        let text = Array(token.text)
        for index in text.indices {
            var damaged = text
            damaged[index] = text[index] == "A" ? "B" : "A"
            // The last letter holds bits that mean nothing.
            guard (try? JoinToken(parsing: String(damaged))) != token else {
                #expect(index == text.count - 1)
                continue
            }
            #expect(throws: OrchestratorError.self) { try JoinToken(parsing: String(damaged)) }
            #expect(throws: OrchestratorError.self) { try JoinToken(parsing: String(text[..<index])) }
        }
        for garbage in ["", "smi1.", "smi2.\(token.text.dropFirst(5))", "smi1.!!!!", token.text + " x", "\u{0}"] {
            #expect(throws: OrchestratorError.self) { try JoinToken(parsing: garbage) }
        }
    }
}

/// A cluster with an enrolment listener and a clock that tests move.
private struct EnrolmentFixture: Sendable {
    final class Clock: Sendable {
        private let offset = Mutex(0.0)
        func advance(_ seconds: Double) { offset.withLock { $0 += seconds } }
        var now: Date { Date() + offset.withLock { $0 } }
    }

    let cluster: TestCluster
    let store: MemoryStore
    let clock: Clock
    let address: PeerAddress
    let tokens: JoinTokens

    func token(lifetime: Duration = .seconds(3600)) async throws -> JoinToken {
        try await tokens.make(authority: cluster.authority, address: address, lifetime: lifetime)
    }

    func join(
        _ token: JoinToken,
        host: String,
        key: P256.Signing.PrivateKey = P256.Signing.PrivateKey()
    ) async throws -> (identity: HostIdentity, configuration: [UInt8]) {
        try await Enrolment.join(
            token,
            host: host,
            address: "10.0.0.2:7000",
            build: "test",
            key: key,
            limits: .patient
        )
    }
}

private func withEnrolment(_ body: (EnrolmentFixture) async throws -> Void) async throws {
    let cluster = try TestCluster()
    let store = MemoryStore()
    let clock = EnrolmentFixture.Clock()
    let tokens = JoinTokens(store: store, now: { clock.now })
    let service = EnrolmentService(authority: cluster.authority, tokens: tokens) { host, address in
        Array("welcome \(host) at \(address)".utf8)
    }
    let server = try await ClusterServer.start(
        .enrolment(try cluster.authority.makeEnrolmentIdentity(), address: "127.0.0.1", port: 0),
        greeting: Greeting(host: "h1", build: "test", cluster: cluster.server.cluster),
        services: [service]
    )
    try await withServer(server) { server in
        try await body(
            EnrolmentFixture(cluster: cluster, store: store, clock: clock, address: try server.address, tokens: tokens)
        )
    }
}

extension JoinToken {
    /// The same token with some bytes changed and a right checksum.
    fileprivate func altered(_ change: (inout [UInt8]) -> Void) throws -> JoinToken {
        var encoded = String(text.dropFirst(5).map { $0 == "-" ? "+" : $0 == "_" ? "/" : $0 })
        encoded += String(repeating: "=", count: (4 - encoded.utf8.count % 4) % 4)
        var bytes = Array(try #require(Data(base64Encoded: encoded))).dropLast(4) as [UInt8]
        change(&bytes)
        let data = Data(bytes + Array(SHA256.hash(data: bytes))[..<4])
        let urlSafe = data.base64EncodedString().map { $0 == "+" ? "-" : $0 == "/" ? "_" : $0 }
        return try JoinToken(parsing: "smi1." + String(urlSafe).prefix { $0 != "=" })
    }
}
