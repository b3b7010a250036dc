import Crypto
import Foundation
import LinuxSystem

/// Founding a cluster, letting hosts in, and joining.
package enum ClusterFounding {
    /// Makes this host the first of a new cluster: it keeps the CA's key and opens the store.
    package static func found(_ paths: HostPaths, name: String, addresses: [String]) throws -> Membership {
        try requireRoot()
        try refuseMember(paths)
        try HostName.check(name)
        let host = try record(name, addresses)
        let directory = try prepare(paths)
        let authority = try CertificateAuthority.create()
        try authority.save(to: directory)
        try authority.makeIdentity(host: name).save(to: directory)
        let membership = Membership(host: host, store: host)
        try membership.save(paths)
        return membership
    }

    /// Lets this host into the cluster that a token is of.
    package static func join(
        _ paths: HostPaths,
        token: String,
        name: String,
        addresses: [String],
        build: String
    ) async throws -> Membership {
        try requireRoot()
        try refuseMember(paths)
        let host = try record(name, addresses)
        let token = try JoinToken(parsing: token)
        let directory = try prepare(paths)
        let (identity, configuration) = try await Enrolment.join(
            token,
            host: name,
            address: host.address,
            build: build,
            key: try enrolmentKey(in: directory)
        )
        try identity.save(to: directory)
        let store = try decode(HostRecord.self, configuration)
        let membership = Membership(host: host, enrolmentPort: token.address.port, store: store)
        try membership.save(paths)
        return membership
    }

    private static func requireRoot() throws(OrchestratorError) {
        try OrchestratorError.requireRoot("a host's keys are root's")
    }

    private static func refuseMember(_ paths: HostPaths) throws {
        guard Membership.exists(paths) else { return }
        let membership = try Membership.load(paths)
        throw OrchestratorError(
            .badArgument,
            cause: "this host is \(membership.host.name) of a cluster already",
            remedy: "to leave it, end its daemon and remove \(Membership.directory(paths))"
        )
    }

    /// A host with its first address, and the first of IPv6 beside it.
    private static func record(_ name: String, _ addresses: [String]) throws -> HostRecord {
        for address in addresses where IPAddress(address) == nil {
            throw OrchestratorError(
                .badArgument,
                cause: "'\(address)' is not an IP address",
                remedy: "give the address that the other hosts reach this one at with --address"
            )
        }
        guard let first = addresses.first else {
            throw OrchestratorError(.badArgument, cause: "no address was given", remedy: "give one with --address")
        }
        let second = addresses.dropFirst().first { IPAddress($0)?.isIPv6 == true }
        return HostRecord(name: name, address: first, address6: second, port: Membership.peerPort)
    }

    private static func prepare(_ paths: HostPaths) throws -> String {
        let directory = Membership.directory(paths)
        try FileManager.default.createDirectory(atPath: paths.state, withIntermediateDirectories: true)
        try PrivateFile.makeDirectory(directory)
        return directory
    }

    /// The key of an earlier attempt to join with the same token, so that a lost answer does not burn the token.
    private static func enrolmentKey(in directory: String) throws -> P256.Signing.PrivateKey {
        let path = directory + "/joining.pem"
        if PrivateFile.exists(path) { return try P256.Signing.PrivateKey(pemRepresentation: PrivateFile.read(path)) }
        let key = P256.Signing.PrivateKey()
        try PrivateFile.write(path, key.pemRepresentation)
        return key
    }
}

/// Makes join tokens on the host that keeps the CA's key.
struct TokenMaker: Sendable {
    let authority: CertificateAuthority?
    let tokens: JoinTokens
    let membership: Membership

    func make() async throws -> String {
        guard let authority else {
            throw OrchestratorError(
                .badArgument,
                cause: "this host does not keep the cluster's CA",
                remedy: "run `smirun cluster token` on \(membership.store.name)"
            )
        }
        let address = PeerAddress(membership.host.address, membership.enrolmentPort)
        return try await tokens.make(authority: authority, address: address).text
    }
}
