import Testing

@testable import Mobility

@Suite struct MACAddressTests {
    @Test(arguments: [
        "02:53:4d:49:00:a1", "02-53-4D-49-00-A1", "0253.4d49.00a1", "02534D4900a1", "02534d-4900A1",
    ])
    func readsEveryCommonSpelling(_ text: String) {
        #expect(MACAddress(text)?.description == "02:53:4d:49:00:a1")
    }

    @Test(arguments: [
        "", "02:53:4d:49:00", "02:53:4d:49:00:a1:b2", "02:53:4d:49:00:g1", "02:53-4d:49:00:a1", "2:53:4d:49:00:a1a",
        "025:34d:490:0a1", ":02534d4900a1", "02534d4900a1:", "a-b-c-d-e-f-0-1-2", "02:53:4d:49:00:a1 ",
    ])
    func refusesWhatIsNotAnAddress(_ text: String) {
        #expect(MACAddress(text) == nil)
    }

    @Test func keepsOnlyFortyEightBits() {
        #expect(MACAddress(bits: .max).description == "ff:ff:ff:ff:ff:ff")
    }
}
