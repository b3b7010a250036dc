import Testing

@testable import Isolation

@Suite struct DetachKeysTests {
    @Test func passesOrdinaryKeys() {
        var keys = DetachKeys()
        let (pass, detach) = keys.filter(Array("hello".utf8))
        #expect(pass == Array("hello".utf8))
        #expect(!detach)
    }

    @Test func leavesOnCtrlPCtrlQ() {
        var keys = DetachKeys()
        let (pass, detach) = keys.filter([97, 0x10, 0x11, 98])
        #expect(pass == [97])
        #expect(detach)
    }

    @Test func leavesWhenTheKeysComeInSeparateReads() {
        var keys = DetachKeys()
        #expect(keys.filter([0x10]).pass.isEmpty)
        #expect(keys.isHolding)
        #expect(keys.filter([0x11]).detach)
    }

    @Test func passesCtrlPTogetherWithTheNextKey() {
        var keys = DetachKeys()
        _ = keys.filter([0x10])
        let (pass, detach) = keys.filter([97])
        #expect(pass == [0x10, 97])
        #expect(!detach)
        #expect(!keys.isHolding)
    }

    @Test func keepsTheSecondOfTwoCtrlP() {
        var keys = DetachKeys()
        let (pass, _) = keys.filter([0x10, 0x10])
        #expect(pass == [0x10])
        #expect(keys.isHolding)
        #expect(keys.filter([0x11]).detach)
    }

    @Test func passesALoneCtrlPWhenItsTimeIsOverAndStillLeavesOnCtrlQ() {
        var keys = DetachKeys()
        _ = keys.filter([0x10])
        #expect(keys.release() == [0x10])
        #expect(keys.release().isEmpty)
        #expect(keys.filter([0x11]).detach)
    }

    @Test func passesCtrlQAlone() {
        var keys = DetachKeys()
        let (pass, detach) = keys.filter([0x11, 97, 0x11])
        #expect(pass == [0x11, 97, 0x11])
        #expect(!detach)
    }
}
