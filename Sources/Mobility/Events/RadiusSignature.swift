import Crypto

/// The authenticators of RADIUS accounting.
///
/// MD5 is what RFC 2866 prescribes; nothing else here relies on it.
package enum RadiusSignature {
    /// What an Accounting-Request's authenticator must be: MD5 over the packet with a zero authenticator, and the
    /// secret (RFC 2866 section 3).
    package static func requestAuthenticator(of bytes: [UInt8], secret: [UInt8]) -> [UInt8] {
        var hash = Insecure.MD5()
        hash.update(data: bytes[..<4])
        hash.update(data: zeros)
        hash.update(data: bytes[20...])
        hash.update(data: secret)
        return Array(hash.finalize())
    }

    /// The response authenticator: MD5 over the response with the request's authenticator, and the secret.
    package static func responseAuthenticator(
        of response: [UInt8],
        request: ArraySlice<UInt8>,
        secret: [UInt8]
    ) -> [UInt8] {
        var hash = Insecure.MD5()
        hash.update(data: response[..<4])
        hash.update(data: request)
        hash.update(data: response[20...])
        hash.update(data: secret)
        return Array(hash.finalize())
    }

    /// Whether a request is signed with this secret: its authenticator (Accounting-Request), and its
    /// Message-Authenticator, which is optional in accounting and required in Status-Server (RFC 5997 section 3).
    package static func isAuthentic(_ packet: RadiusPacket, secret: [UInt8]) -> Bool {
        let attribute = packet.attributes.first { $0.type == RadiusAttributeType.messageAuthenticator }
        if packet.code == RadiusCode.accountingRequest {
            let expected = requestAuthenticator(of: packet.bytes, secret: secret)
            guard equalInConstantTime(packet.authenticator, expected[...]) else { return false }
        } else if attribute == nil {
            return false
        }
        guard let attribute else { return true }
        guard attribute.range.count == 16 else { return false }
        let expected = messageAuthenticator(of: packet.bytes, value: attribute.range, secret: secret)
        return equalInConstantTime(packet.bytes[attribute.range], expected[...])
    }

    /// HMAC-MD5 over the packet with the attribute's value zeroed (RFC 2869 section 5.14), and in accounting the
    /// authenticator zeroed too, as it is computed afterwards.
    package static func messageAuthenticator(of bytes: [UInt8], value: Range<Int>, secret: [UInt8]) -> [UInt8] {
        var copy = bytes
        copy.replaceSubrange(value, with: [UInt8](repeating: 0, count: value.count))
        if copy[0] == RadiusCode.accountingRequest { copy.replaceSubrange(4..<20, with: zeros) }
        let code = HMAC<Insecure.MD5>.authenticationCode(for: copy, using: SymmetricKey(data: secret))
        return Array(code)
    }

    /// The packet with its request authenticator filled in, and its Message-Authenticator where it carries one.
    package static func signed(request packet: RadiusPacket, secret: [UInt8]) -> [UInt8] {
        var bytes = packet.bytes
        if let attribute = packet.attributes.first(where: { $0.type == RadiusAttributeType.messageAuthenticator }) {
            let code = messageAuthenticator(of: bytes, value: attribute.range, secret: secret)
            bytes.replaceSubrange(attribute.range, with: code.prefix(attribute.range.count))
        }
        if packet.code == RadiusCode.accountingRequest {
            bytes.replaceSubrange(4..<20, with: requestAuthenticator(of: bytes, secret: secret))
        }
        return bytes
    }

    /// The signed Accounting-Response to a request: every Proxy-State in order and nothing else (RFC 2866 section 5.13).
    package static func response(to request: RadiusPacket, secret: [UInt8]) -> [UInt8] {
        let states = request.values(RadiusAttributeType.proxyState)
        let packet = RadiusPacket(
            code: RadiusCode.accountingResponse,
            identifier: request.identifier,
            attributes: states.map { (RadiusAttributeType.proxyState, Array($0)) }
        )
        var bytes = packet.bytes
        let authenticator = responseAuthenticator(of: bytes, request: request.authenticator, secret: secret)
        bytes.replaceSubrange(4..<20, with: authenticator)
        return bytes
    }

    private static let zeros = [UInt8](repeating: 0, count: 16)

    private static func equalInConstantTime(_ left: ArraySlice<UInt8>, _ right: ArraySlice<UInt8>) -> Bool {
        guard left.count == right.count else { return false }
        return zip(left, right).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }
}
