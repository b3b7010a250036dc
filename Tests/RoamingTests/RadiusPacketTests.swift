import Testing

@testable import Mobility

@Suite struct RadiusPacketTests {
    @Test func whatIsBuiltParsesBack() throws {
        let packet = RadiusPacket(
            code: 4,
            identifier: 9,
            authenticator: Array(1...16),
            attributes: [(1, Array("ann".utf8)), (33, [1, 2]), (33, []), (40, [0, 0, 0, 1])]
        )
        let parsed = try RadiusPacket(parsing: packet.bytes)
        #expect(parsed == packet)
        #expect(parsed.text(1) == "ann")
        #expect(parsed.values(33).map(Array.init) == [[1, 2], []])
        #expect(parsed.integer(40) == 1)
        #expect(parsed.integer(1) == nil)
        #expect(Array(parsed.authenticator) == Array(1...16))
    }

    @Test func ignoresPaddingAfterTheLength() throws {
        let bytes = RadiusPacket(code: 4, identifier: 1, attributes: [(1, [65])]).bytes
        #expect(try RadiusPacket(parsing: bytes + [0, 0, 7]).bytes == bytes)
    }

    @Test func refusesEveryTruncation() throws {
        let bytes = RadiusClient.request()
        for count in 0..<bytes.count {
            #expect(throws: RadiusDefect.truncated) { try RadiusPacket(parsing: Array(bytes[..<count])) }
        }
    }

    @Test func refusesImpossibleLengths() {
        for length in [0, 19, 4097, 65_535] {
            var bytes = [UInt8](repeating: 0, count: 5000)
            (bytes[2], bytes[3]) = (UInt8(length >> 8), UInt8(length & 255))
            #expect(throws: RadiusDefect.impossibleLength) { try RadiusPacket(parsing: bytes) }
        }
    }

    @Test(arguments: [[1, 0], [1, 1], [1, 3], [1, 255], [1]] as [[UInt8]])
    func refusesBrokenAttributes(_ attribute: [UInt8]) {
        let bytes: [UInt8] = [4, 1, 0, UInt8(20 + attribute.count)] + [UInt8](repeating: 0, count: 16) + attribute
        #expect(throws: RadiusDefect.brokenAttribute) { try RadiusPacket(parsing: bytes) }
    }

    @Test func leavesOutWhatDoesNotFit() throws {
        var long = [(type: UInt8, value: [UInt8])](repeating: (33, [UInt8](repeating: 1, count: 253)), count: 20)
        long.append((1, [UInt8](repeating: 1, count: 254)))
        let packet = RadiusPacket(code: 5, identifier: 1, attributes: long)
        #expect(packet.bytes.count <= RadiusPacket.maximumLength)
        #expect(try RadiusPacket(parsing: packet.bytes).attributes.count == 15)
    }

    @Test func textEndsAtNULAndSurvivesBrokenUTF8() {
        let packet = RadiusPacket(
            code: 4,
            identifier: 1,
            attributes: [(1, [65, 66, 0, 67]), (32, [0xff, 65]), (31, [0])]
        )
        #expect(packet.text(1) == "AB")
        #expect(packet.text(32) == "\u{fffd}A")
        #expect(packet.text(31) == nil)
    }

    /// Bytes of any kind: nothing but a packet or one of three errors, in a run that is the same every time.
    @Test func survivesRandomBytes() {
        var random = SplitMix(state: 20)
        let seed = RadiusClient.request(extra: [(33, [1, 2, 3]), (80, [UInt8](repeating: 0, count: 16))])
        for round in 0..<200_000 {
            var bytes = seed
            if round % 4 == 0 {
                bytes = (0..<Int.random(in: 0...64, using: &random)).map { _ in
                    UInt8.random(in: 0...255, using: &random)
                }
            } else {
                for _ in 0..<Int.random(in: 1...6, using: &random) {
                    bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
                }
                bytes = Array(bytes.prefix(Int.random(in: 0...bytes.count * 2, using: &random)))
            }
            guard let packet = try? RadiusPacket(parsing: bytes) else { continue }
            #expect(packet.attributes.allSatisfy { $0.range.upperBound <= packet.bytes.count })
            _ = RadiusAccounting.read(packet, received: 0, sender: "::1")
        }
    }
}

@Suite struct RadiusSignatureTests {
    @Test func aRequestSignedWithAnotherSecretIsNotAuthentic() throws {
        let packet = try RadiusPacket(parsing: RadiusClient.request())
        #expect(RadiusSignature.isAuthentic(packet, secret: RadiusClient.secret))
        #expect(!RadiusSignature.isAuthentic(packet, secret: Array("testing124".utf8)))
        #expect(!RadiusSignature.isAuthentic(packet, secret: []))
    }

    @Test func everyFlippedBitIsNoticed() throws {
        let bytes = RadiusClient.request(extra: [(80, [UInt8](repeating: 0, count: 16))])
        #expect(RadiusSignature.isAuthentic(try RadiusPacket(parsing: bytes), secret: RadiusClient.secret))
        for index in bytes.indices where index != 2 && index != 3 {
            var changed = bytes
            changed[index] ^= 1
            guard index != 0, let packet = try? RadiusPacket(parsing: changed) else { continue }
            #expect(!RadiusSignature.isAuthentic(packet, secret: RadiusClient.secret), "byte \(index)")
        }
    }

    @Test func aMessageAuthenticatorOfTheWrongSizeIsRefused() throws {
        let bytes = RadiusClient.request(extra: [(80, [1, 2, 3])])
        #expect(!RadiusSignature.isAuthentic(try RadiusPacket(parsing: bytes), secret: RadiusClient.secret))
    }

    @Test func statusServerNeedsItsMessageAuthenticator() throws {
        let bare = RadiusPacket(code: 12, identifier: 1, authenticator: Array(1...16), attributes: [])
        #expect(!RadiusSignature.isAuthentic(bare, secret: RadiusClient.secret))
        let unsigned = RadiusPacket(
            code: 12,
            identifier: 1,
            authenticator: Array(1...16),
            attributes: [(80, [UInt8](repeating: 0, count: 16))]
        )
        #expect(!RadiusSignature.isAuthentic(unsigned, secret: RadiusClient.secret))
        let signed = RadiusSignature.signed(request: unsigned, secret: RadiusClient.secret)
        #expect(RadiusSignature.isAuthentic(try RadiusPacket(parsing: signed), secret: RadiusClient.secret))
    }
}
