"""Families of calculations in Chinese."""

from .calculation import Calculation, decimal_of, family, yuan


@family("interest", 1, "zh")
def simple_interest_zh(r):
    p, rate, years = r.randrange(10, 200) * 500, r.choice([2, 3, 4, 5, 6]), r.randint(2, 6)
    c = Calculation("单利利息 = 本金 × 年利率 × 年数")
    c.step("利息", f"{p} * {decimal_of(rate)} * {years}")
    return [f"本金{yuan(p)}，年利率{rate}%，按单利计算，{years}年的利息是多少元？",
            f"把{yuan(p)}存{years}年，单利年利率为{rate}%，可得利息多少元？"], c


@family("interest", 2, "zh")
def compound_interest_zh(r):
    p, rate, years = r.randrange(10, 200) * 500, r.choice([2, 3, 4, 5, 6]), r.randint(2, 8)
    c = Calculation("终值 = 本金 × (1 + 年利率)^年数")
    c.step("终值", f"{p} * (1 + {decimal_of(rate)}) ** {years}")
    return [f"{yuan(p)}按年利率{rate}%每年复利一次，{years}年后的终值是多少元？",
            f"存入{yuan(p)}，年复利率为{rate}%，{years}年后账户余额是多少元？"], c


@family("interest", 2, "zh")
def present_value_zh(r):
    f, rate, years = r.randrange(20, 300) * 500, r.choice([3, 4, 5, 6, 8]), r.randint(2, 8)
    c = Calculation("现值 = 终值 / (1 + 贴现率)^年数")
    c.step("现值", f"{f} / (1 + {decimal_of(rate)}) ** {years}")
    return [f"{years}年后收到的{yuan(f)}，按贴现率{rate}%计算，现值是多少元？",
            f"要在{years}年后得到{yuan(f)}，年复利率为{rate}%，今天应投入多少元？"], c


@family("loans", 4, "zh")
def annual_payment_zh(r):
    p, rate, years = r.randrange(10, 90) * 5000, r.choice([3, 4, 5, 6]), r.randint(3, 10)
    c = Calculation("每年还款 = 贷款 × 年利率 / (1 - (1 + 年利率)^-年数)，利息总额 = 每年还款 × 年数 - 贷款")
    pay = c.step("每年还款", f"{p} * {decimal_of(rate)} / (1 - (1 + {decimal_of(rate)}) ** -{years})")
    c.step("利息总额", f"{pay} * {years} - {p}")
    return [f"贷款{yuan(p)}，年利率{rate}%，分{years}年每年末等额偿还，利息总额是多少元？",
            f"企业借款{yuan(p)}，年利率为{rate}%，{years}年内每年末等额还款，共支付多少元利息？"], c


@family("ratios", 1, "zh")
def current_ratio_zh(r):
    assets, liabilities = r.randrange(100, 500) * 1000, r.randrange(60, 300) * 1000
    c = Calculation("流动比率 = 流动资产 / 流动负债")
    c.step("流动比率", f"{assets} / {liabilities}")
    return [f"某公司流动资产为{yuan(assets)}，流动负债为{yuan(liabilities)}，流动比率是多少？",
            f"流动负债{yuan(liabilities)}，流动资产{yuan(assets)}，求流动比率。"], c


@family("ratios", 2, "zh")
def gross_margin_zh(r):
    revenue = r.randrange(80, 600) * 1000
    cost = int(revenue * r.uniform(0.4, 0.85) / 1000) * 1000
    c = Calculation("毛利率 = (收入 - 成本) / 收入 × 100")
    profit = c.step("毛利", f"{revenue} - {cost}", 0)
    c.step("毛利率", f"{profit} / {revenue} * 100", 2, "%")
    return [f"某零售商收入为{yuan(revenue)}，销售成本为{yuan(cost)}，毛利率是多少？",
            f"销售收入{yuan(revenue)}，销售成本{yuan(cost)}，求毛利率。"], c


@family("ratios", 1, "zh")
def return_on_equity_zh(r):
    income, equity = r.randrange(20, 120) * 1000, r.randrange(200, 900) * 1000
    c = Calculation("净资产收益率 = 净利润 / 所有者权益 × 100")
    c.step("净资产收益率", f"{income} / {equity} * 100", 2, "%")
    return [f"净利润为{yuan(income)}，所有者权益为{yuan(equity)}，净资产收益率是多少？",
            f"某公司所有者权益为{yuan(equity)}，当年净利润为{yuan(income)}，求净资产收益率。"], c


@family("accounting", 2, "zh")
def depreciation_zh(r):
    life, residual = r.choice([4, 5, 8, 10]), r.randrange(0, 10) * 1000
    cost = residual + life * r.randrange(10, 80) * 250
    c = Calculation("年折旧额 = (原值 - 残值) / 使用年限")
    c.step("年折旧额", f"({cost} - {residual}) / {life}")
    return [f"一台设备原值{yuan(cost)}，残值{yuan(residual)}，使用{life}年，直线法年折旧额是多少元？",
            f"按直线法，原值{yuan(cost)}、残值{yuan(residual)}、使用年限{life}年的机器每年折旧多少元？"], c


@family("accounting", 3, "zh")
def break_even_zh(r):
    price, variable = r.randrange(40, 150), r.randrange(10, 36)
    fixed = (price - variable) * r.randrange(200, 2000)
    c = Calculation("盈亏平衡销量 = 固定成本 / (单价 - 单位变动成本)")
    margin = c.step("单位边际贡献", f"{price} - {variable}", 0)
    c.step("盈亏平衡销量", f"{fixed} / {margin}", 0)
    return [f"固定成本为{yuan(fixed)}，单价为{yuan(price)}，单位变动成本为{yuan(variable)}，盈亏平衡销量是多少件？",
            f"某工厂产品单价{yuan(price)}，单位变动成本{yuan(variable)}，固定成本{yuan(fixed)}，卖出多少件才能保本？"], c


@family("foreign exchange", 1, "zh")
def convert_currency_zh(r):
    amount, rate = r.randrange(4, 90) * 50, r.choice([6.8, 6.95, 7.05, 7.12, 7.2, 7.25])
    c = Calculation("人民币金额 = 外币金额 × 汇率")
    c.step("人民币金额", f"{amount} * {rate}")
    return [f"1单位外币兑换{rate}元，{amount:,}单位外币可以兑换多少元？",
            f"汇率为1单位外币兑{rate}元，{amount:,}单位外币值多少元？"], c


@family("tax", 2, "zh")
def add_vat_zh(r):
    net, rate = r.randrange(20, 900) * 10, r.choice([6, 9, 13])
    c = Calculation("含税价 = 不含税价 × (1 + 税率)")
    c.step("含税价", f"{net} * (1 + {decimal_of(rate)})")
    return [f"商品不含税价为{yuan(net)}，增值税税率为{rate}%，含税价是多少元？",
            f"不含税价{yuan(net)}，加上{rate}%的增值税，应付多少元？"], c


@family("portfolio", 3, "zh")
def portfolio_return_zh(r):
    weight, a, b = r.choice([20, 30, 40, 60, 70]), r.choice([6, 7, 8, 9, 10]), r.choice([2, 3, 4])
    c = Calculation("组合收益率 = 股票权重 × 股票收益率 + 债券权重 × 债券收益率")
    other = c.step("债券权重", f"100 - {weight}", 0, "%")
    c.step("组合收益率", f"{decimal_of(weight)} * {a} + {decimal_of(other)} * {b}", 2, "%")
    return [f"组合中股票占{weight}%，预期收益率{a}%，其余为债券，预期收益率{b}%，组合的预期收益率是多少？",
            f"投资者把{weight}%的资金投入收益率{a}%的股票，其余投入收益率{b}%的债券，组合收益率是多少？"], c
